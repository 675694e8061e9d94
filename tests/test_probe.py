"""A probe file: the same probe again when it is read, the same bytes when it is made again."""

import contextlib
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from bottleneck_probe import probe_format
from safetensors import safe_open
from safetensors.numpy import load, save
from scipy.special import softmax

N, D = 60, 6


def blobs(seed: int = 0, n: int = N, classes: tuple[str, ...] = ("ants", "bees", "wasps")):
    """Three overlapping clouds in six dimensions."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % len(classes)
    centres = np.random.default_rng(99).normal(0, 1.2, (len(classes), D))
    X = (centres[y] + rng.normal(0, 1, (n, D))).astype(np.float32)
    return bp.Features.from_arrays(X, [classes[i] for i in y])


@pytest.fixture(scope="module")
def features() -> bp.Features:
    return blobs()


HEADS = {
    "logistic": {},
    "svm": {},
    "svm-rbf": {},
    "mlp": {},
}


@pytest.fixture(scope="module", params=list(HEADS))
def probe(request, features) -> bp.Probe:
    return bp.fit(features, head=request.param, folds=3, repeats=1, quiet=True)


@pytest.fixture(scope="module")
def logistic(features) -> bp.Probe:
    return bp.fit(features, folds=3, repeats=1, quiet=True)


def test_a_probe_is_the_same_after_save_and_load(probe, tmp_path):
    path = probe.save(tmp_path / "x.probe")
    again = bp.load(path)
    X = np.asarray(blobs(seed=5).features)
    assert again.predict_proba(X).tobytes() == probe.predict_proba(X).tobytes()
    for name in [
        *("head", "params", "classes", "protocol", "n_train", "n_test", "seed", "metrics"),
        *("baseline", "per_class", "notes", "recipe", "fingerprint", "n_features"),
    ]:
        assert getattr(again, name) == getattr(probe, name), name
    np.testing.assert_array_equal(again.confusion, probe.confusion)
    for name in ("keys", "y", "probabilities", "folds", "answers"):
        np.testing.assert_array_equal(getattr(again.oof, name), getattr(probe.oof, name))
    assert again.to_bytes() == path.read_bytes()


def test_probabilities_are_those_of_the_fitted_head(probe, features):
    X = np.asarray(features.features)
    got = probe.predict_proba(X)
    assert got.dtype == np.float64
    assert got.shape == (N, 3)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-9)
    # The scaler is in the probe: standardised by hand, then the head alone, gives the same.
    scaler, head = probe._fitted.scaling, probe._fitted.head
    by_hand = (X - X.mean(dtype=np.float64)) / X.std(dtype=np.float64)
    np.testing.assert_allclose(scaler.transform(X), by_hand, atol=1e-4)
    scores = head.decision_function(scaler.transform(X)) / probe._fitted.temperature
    np.testing.assert_allclose(got, softmax(scores, axis=1), atol=1e-12)


def test_out_of_fold_rows_are_the_score(logistic, features):
    oof = logistic.oof
    hits = oof.probabilities.argmax(axis=1) == oof.y
    assert logistic.metrics["accuracy"]["value"] == pytest.approx(hits.mean())
    row = {key.tobytes(): i for i, key in enumerate(features.keys)}
    names = np.array(logistic.classes)[oof.y]
    for i, key in enumerate(oof.keys):
        assert features.labels[row[key.tobytes()]] == names[i]
        assert features.paths[row[key.tobytes()]] == oof.paths[i]


FIT = """
import sys
import numpy as np
import bottleneck_probe as bp
cache = bp.open(sys.argv[1])
bp.fit(cache, head=sys.argv[3], folds=3, repeats=1, seed=3, quiet=True).save(sys.argv[2])
"""


@pytest.mark.parametrize(("head", "children"), [("logistic", 2), ("mlp", 1)])
def test_two_processes_write_the_same_bytes(head, children, features, tmp_path):
    features.save(tmp_path / "x.h5")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", FIT, tmp_path / "x.h5", tmp_path / f"{child} name.probe", head],
            # Another one each: the order of a set must not show.
            env={**os.environ, "PYTHONHASHSEED": str(child + 1)},
        )
        for child in range(children)
    ]
    here, other = (
        bp.fit(
            bp.open(tmp_path / "x.h5"), head=head, folds=3, repeats=1, seed=seed, quiet=True
        ).to_bytes()
        for seed in (3, 4)
    )
    assert [process.wait(timeout=300) for process in running] == [0] * children
    for child in range(children):
        assert (tmp_path / f"{child} name.probe").read_bytes() == here
    assert other != here


def test_the_file_has_one_metadata_key_and_says_nothing_of_place_or_time(logistic, tmp_path):
    path = logistic.save(tmp_path / "secret-folder-name.probe")
    with safe_open(path, framework="numpy") as opened:
        metadata = opened.metadata()
    assert list(metadata) == ["bottleneck"]
    description = json.loads(metadata["bottleneck"])
    assert description["format"] == "bottleneck-probe"
    assert description["format_version"] == 3
    content = path.read_bytes()
    assert str(tmp_path).encode() not in content
    assert b"secret-folder-name" not in content
    assert os.fsencode(Path.home()) not in content
    words = set(_keys(description))
    assert not words & {"root", "path", "paths", "time", "date", "seconds", "host", "created_by"}


def _keys(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


def test_features_of_another_length_are_refused(logistic):
    with pytest.raises(bp.ProbeError, match=r"\(n, 6\)"):
        logistic.predict_proba(np.zeros((2, 7)))
    with pytest.raises(bp.ProbeError, match=r"\(6,\)"):
        logistic.predict_proba(np.zeros(6))


def rewritten(probe: bp.Probe | bytes, change) -> bytes:
    """The probe's file with its description changed, and the digest made anew, as a stranger would."""
    content = probe if isinstance(probe, bytes) else probe.to_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    description = json.loads(header["__metadata__"]["bottleneck"])
    signed = description.pop("blake3", None)
    changed = change(description)
    changed = description if changed is None else changed
    if signed and isinstance(changed, dict):
        with contextlib.suppress(bp.RecipeError):  # no JSON: then any digest will do
            signed = probe_format.digest(changed, load(content))
        changed["blake3"] = signed
    header["__metadata__"]["bottleneck"] = json.dumps(changed)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def test_what_is_no_probe_is_refused_in_words(logistic, tmp_path):
    whole = logistic.to_bytes()
    ran = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (ran,))

    def newer(description):
        description["format_version"] = 4

    def headless(description):
        del description["metrics"]

    def unknown_head(description):
        description["pipeline"]["head"]["class"] = "os.system"

    def other_format(description):
        description["format"] = "something else"

    file = tmp_path / "x.h5"
    with h5py.File(file, "w") as h5:
        h5["features"] = np.zeros((2, 2))
    cases = {
        "pickle is refused": pickle.dumps(Payload()),
        "it is a feature file": file.read_bytes(),
        "is no probe": b"",
        "is no probe ": b"\x00" * 4,
        "is no probe  ": b"path,label\na.jpg,ant\n" * 10,
        "is damaged": whole[:-5],
        "is damaged ": whole[: len(whole) // 2],
        "but no probe": save({"a": np.zeros(2)}, {"other": "1"}),
        "but no probe ": save({"a": np.zeros(2)}),
        "but no probe  ": rewritten(logistic, other_format),
        "but no probe   ": rewritten(logistic, lambda description: [1, 2]),
        "but no probe    ": save({"a": np.zeros(2)}, {"bottleneck": "[" * 100_000 + "]" * 100_000}),
        "format version 4": rewritten(logistic, newer),
        "is incomplete": rewritten(logistic, headless),
        "os.system": rewritten(logistic, unknown_head),
    }
    for text, content in cases.items():
        path = tmp_path / "bad.probe"
        path.write_bytes(content)
        with pytest.raises(bp.ProbeError) as caught:
            bp.load(path)
        assert text.strip() in str(caught.value), (text, str(caught.value))
        assert "bad.probe" in str(caught.value) or "os.system" in text
    assert not ran.exists()
    with pytest.raises(bp.ProbeError, match=r"no probe at .*missing\.probe"):
        bp.load(tmp_path / "missing.probe")


def test_a_probe_of_the_first_version_says_what_it_said_then():
    """Made by version 0.1.0, of the file format 1, where an SVM kept its temperature inside the head."""
    old = bp.load(Path(__file__).parent / "probes" / "version-1-svm.probe")
    X = [[2.125730276107788, -0.13210485875606537, 0.6404226422309875]]
    X += [[-1.2654215097427368, 1.3767255544662476, 0.04132597893476486]]
    said = [[0.5254360919056219, 0.47456390809437815], [0.4779827781325802, 0.5220172218674198]]
    np.testing.assert_allclose(old.predict_proba(np.float32(X)), said, rtol=1e-6)
    assert old.oof.answers.shape == (1, 40)
    assert (old.optimism, old.extra, old.arrays) == ({}, {}, {})


# What probes of the file format 2 said when they were made, of the two rows below.
SAID = {
    "logistic": [
        [0.6998559004115136, 0.30014409958848637],
        [0.6896350709468773, 0.3103649290531228],
    ],
    "svm-rbf": [
        [0.6044003761027731, 0.3955996238972269],
        [0.6669858674370356, 0.33301413256296447],
    ],
    "mlp": [[0.7686215899041018, 0.2313784100958983], [0.9255982111748143, 0.07440178882518567]],
    "multilabel": [
        [0.28429797076881813, 0.7157020292311819, 0.9972479184254828],
        [0.1235289440806083, 0.8764710559193917, 0.029056878060694034],
    ],
}


@pytest.mark.parametrize("kind", SAID)
def test_a_probe_of_the_second_version_says_what_it_said_then(kind, tmp_path):
    """Of the file format 2: without a digest, the confusion matrix in the JSON."""
    old = bp.load(Path(__file__).parent / "probes" / f"version-2-{kind}.probe")
    X = np.float32([[2.1, -0.1, 0.6], [-1.3, 1.4, 0.04]])
    np.testing.assert_allclose(old.predict_proba(X), SAID[kind], rtol=1e-6)
    assert old.confusion.sum() == (0 if kind == "multilabel" else 40)
    new = bp.load(old.save(tmp_path / "new.probe"))
    assert new.predict_proba(X).tobytes() == old.predict_proba(X).tobytes()
    np.testing.assert_array_equal(new.confusion, old.confusion)
    assert repr(new) == repr(old)


def test_a_newer_version_says_how_to_get_it(logistic, tmp_path):
    def newer(description):
        description["format_version"] = 7

    (tmp_path / "x.probe").write_bytes(rewritten(logistic, newer))
    with pytest.raises(bp.ProbeError) as caught:
        bp.load(tmp_path / "x.probe")
    assert "version 7" in caught.value.what
    assert "version 3 or older" in caught.value.expected
    assert "pip install -U bottleneck-probe" in caught.value.next


def test_a_version_that_is_missing_or_no_number_is_no_reason_to_upgrade(logistic, tmp_path):
    for change in (
        lambda description: description.pop("format_version") and None,
        lambda description: description.update(format_version="3"),
        lambda description: description.update(format_version=0),
        lambda description: description.update(format_version=True),
    ):
        (tmp_path / "x.probe").write_bytes(rewritten(logistic, change))
        with pytest.raises(bp.ProbeError, match="no known format version") as caught:
            bp.load(tmp_path / "x.probe")
        assert "pip" not in str(caught.value)


def test_a_probe_with_nan_in_its_weights_is_refused(logistic, tmp_path):
    content = logistic.to_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    description = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["bottleneck"])
    arrays = load(content)
    for name in ("pipeline/head.coef", "oof/probabilities"):
        hurt = {**arrays, name: np.where(np.arange(arrays[name].size) == 1, np.nan, 0.0)}
        hurt[name] = hurt[name].reshape(arrays[name].shape)
        told = {key: value for key, value in description.items() if key != "blake3"}
        told["blake3"] = probe_format.digest(told, hurt)
        (tmp_path / "x.probe").write_bytes(save(hurt, {"bottleneck": json.dumps(told)}))
        with pytest.raises(bp.ProbeError, match=f"NaN or infinity in {name}"):
            bp.load(tmp_path / "x.probe")


def test_any_flipped_bit_is_an_error_of_ours_or_changes_nothing(logistic, tmp_path):
    whole = logistic.to_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = np.random.default_rng(0)
    path, refused, X = tmp_path / "x.probe", 0, np.asarray(blobs(seed=5).features)
    # Half of them in the header, so that both parts are met.
    for place in [*rng.integers(0, header, 150), *rng.integers(header, len(whole), 150)]:
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(content))
        try:
            found = bp.load(path)
        except bp.ProbeError:
            refused += 1
        else:
            assert found.to_bytes() == whole
            assert found.predict_proba(X).tobytes() == logistic.predict_proba(X).tobytes()
    assert (
        refused > 290
    )  # all but a space at the end of the header, or an escape of another spelling


def test_saving_over_a_probe_keeps_the_old_one_whole_until_the_end(logistic, tmp_path, monkeypatch):
    path = logistic.save(tmp_path / "x.probe")
    before = path.read_bytes()
    monkeypatch.setattr(bp.Probe, "to_bytes", lambda self: b"half a pro" + 3)
    with pytest.raises(TypeError):
        logistic.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.probe"]


def test_a_probe_shows_its_score_and_escapes_its_names(features, tmp_path):
    X = np.asarray(features.features)
    labels = [f"<script>{label}" for label in features.labels]
    shown = bp.fit(bp.Features.from_arrays(X, labels), folds=3, repeats=1, quiet=True)
    assert "3 classes, accuracy 0." in repr(shown)
    assert "<script>" not in shown._repr_html_()
    assert "balanced_accuracy" in shown._repr_html_()
