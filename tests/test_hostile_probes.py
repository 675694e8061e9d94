"""Probes that a stranger has made: a digest that fits, and something odd inside."""

import contextlib
import importlib.util
import io
import json
import pickle
import random
import sys
import warnings
from pathlib import Path

import bottleneck_probe as bp
import joblib
import numpy as np
import pytest
import torch
from bottleneck_probe.backbones.weights import load_state_dict
from bottleneck_probe.cli.main import bottleneck
from bottleneck_probe.probe_schema import require_sound
from bottleneck_probe.probe_tensors import Unsound
from bottleneck_probe.report.tables import describe_probe, show_probe
from click.testing import CliRunner

FAULTS = Path(__file__).parent / "faults"
PROBES = Path(__file__).parent / "probes"


def load_module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


hurt = load_module("hurt_of_probes", FAULTS / "harness" / "hurt.py")


@pytest.fixture(scope="module")
def probes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes")
    for head in ("logistic", "knn"):
        hurt.probe_file(folder / f"{head}.probe", head)
    bp.load(PROBES / "version-2-multilabel.probe").save(folder / "multilabel.probe")
    return {path.stem: path.read_bytes() for path in folder.iterdir()}


def use(probe):
    """Everything that anybody asks of a probe, and a person may look at."""
    X = np.zeros((3, probe.n_features), np.float32)
    assert probe.predict_proba(X).shape == (3, len(probe.classes))
    repr(probe), probe._repr_html_(), probe.novelty_threshold, probe.thresholds
    describe_probe(probe)
    show_probe(probe)
    if "novelty" in probe.extra:
        probe.novelty(X)
    if probe.task == "classification":
        with contextlib.suppress(bp.ProbeError):
            probe.abstain_rule(0.6)
        probe.oof.cleanlab()
    names = np.array(probe.classes)
    if probe.task == "classification":
        y = names[np.arange(30) % len(names)]
        own = bp.Features.from_arrays(
            np.random.default_rng(0).normal(size=(30, probe.n_features)), y
        )
        own.header = type(own.header)(probe.recipe, {}, probe.fingerprint)
        with contextlib.suppress(bp.BottleneckError):
            probe.predict(own, quiet=True)
            probe.score(own, quiet=True)
    probe.to_bytes()


@pytest.mark.parametrize("kind", ["logistic", "knn", "multilabel"])
def test_whatever_a_stranger_writes_is_refused_at_once_or_can_be_used(
    kind, probes, tmp_path, capsys
):
    refused = 0
    path = tmp_path / "x.probe"
    for number in range(120):
        path.write_bytes(hurt.forge(probes[kind], random.Random(f"{kind}-{number}")))
        try:
            found = bp.load(path)
        except bp.ProbeError:
            refused += 1
            continue
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            use(found)
    assert 40 < refused < 120


def test_the_probes_as_they_are_are_sound(probes, tmp_path, capsys):
    for name, data in probes.items():
        path = tmp_path / f"{name}.probe"
        path.write_bytes(data)
        use(bp.load(path))


def test_a_confusion_matrix_of_a_thousand_classes_is_no_long_header(tmp_path, probes):
    """In JSON it would take 2 MB; the description of a class takes some hundred bytes."""
    path = tmp_path / "x.probe"
    path.write_bytes(probes["logistic"])
    probe = bp.load(path)
    k = 1000
    probe.confusion = np.zeros((k, k), np.int64)
    probe._description["confusion"] = probe.confusion.tolist()
    data = probe.to_bytes()
    assert int.from_bytes(data[:8], "little") < 20_000
    assert len(data) > 8 * k * k


def test_a_description_that_no_reader_would_take_is_not_written(probes, tmp_path):
    path = tmp_path / "x.probe"
    path.write_bytes(probes["logistic"])
    probe = bp.load(path)
    probe._description["notes"] = ["x" * (9 << 20)]
    with pytest.raises(bp.ProbeError, match="description takes 9 MiB"):
        probe.to_bytes()


class Payload:
    """What a pickle may do to whoever reads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def written(write, *arguments, **options):
    file = io.BytesIO()
    write(*arguments, file, **options)
    return file.getvalue()


PICKLES = {
    "pickle": lambda evil: pickle.dumps(evil),
    "pickle 2": lambda evil: pickle.dumps(evil, protocol=2),
    "joblib": lambda evil: written(joblib.dump, evil),
    "joblib, compressed": lambda evil: written(joblib.dump, evil, compress=3),
    "torch": lambda evil: written(torch.save, evil),
    "torch, before 1.6": lambda evil: written(
        torch.save, evil, _use_new_zipfile_serialization=False
    ),
    "npy": lambda evil: written(lambda a, f: np.save(f, a), np.array([evil], object)),
    "npz": lambda evil: written(lambda a, f: np.savez(f, a=a), np.array([evil], object)),
}


@pytest.mark.parametrize(
    ("length", "content"),
    [
        (17 << 20, b"{" + b" " * (17 << 20)),
        (1 << 40, b"{}"),
        (2**64 - 1, b"{}"),
        (100, b'{"a":1}'),
    ],
    ids=["long", "beyond the file", "beyond all", "cut"],
)
def test_a_header_that_is_too_long_is_not_read(length, content, tmp_path):
    """Names of classes lie in it, so that it may have 16 MiB."""
    (tmp_path / "x.probe").write_bytes(length.to_bytes(8, "little") + content)
    with pytest.raises(bp.ProbeError, match=r"x\.probe is no probe"):
        bp.load(tmp_path / "x.probe")


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_of_any_kind_is_refused_and_does_not_run(kind, tmp_path):
    """In the place of a probe, of a feature file, of weights and of a network; exit code 1."""
    ran, content = tmp_path / "ran", PICKLES[kind](Payload(tmp_path / "ran"))
    for name in ("x.probe", "x.h5", "x.pth", "x.onnx"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "a.png").write_bytes(b"")
    probe, features, image = (str(tmp_path / name) for name in ("x.probe", "x.h5", "a.png"))
    for command, words in (
        (["info", probe], "pickle is refused"),
        (["verify", probe], "pickle is refused"),
        (["predict", probe, image, "-o", str(tmp_path / "p.csv")], "pickle is refused"),
        (["score", probe, image], "pickle is refused"),
        (["info", features], "not an HDF5 file"),
        (["fit", features], "not an HDF5 file"),
        (["extract", image, "--backbone", str(tmp_path / "x.onnx")], "x.onnx"),
    ):
        done = CliRunner().invoke(bottleneck, [*command, "--json"])
        reply = json.loads(done.stdout)
        assert (done.exit_code, reply["exit_code"]) == (1, 1), command
        said = json.dumps(reply)
        assert words in said, (command, said)
    with pytest.raises(bp.WeightsError, match=r"could run code|no weights that can be read"):
        load_state_dict(tmp_path / "x.pth")
    assert not ran.exists()
    assert not (tmp_path / "p.csv").exists()
    if kind in ("pickle", "pickle 2"):
        pickle.loads(content)
        assert ran.exists(), "the payload is none"


@pytest.mark.parametrize("depth", [20, 5000])
def test_endless_nesting_is_refused(depth):
    value: list = []
    for _ in range(depth):
        value = [value]
    with pytest.raises(Unsound, match="nested too deep"):
        require_sound({"notes": value}, {})
