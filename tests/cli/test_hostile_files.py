"""Feature files of strangers, given to each command: exit code 1, the reason, and nothing is done."""

import json
from pathlib import Path

import bottleneck_probe as bp
import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
from bottleneck_probe.cache import checks, child, verifying
from bottleneck_probe.cli.main import bottleneck
from click.testing import CliRunner
from common import load

# What was done to a file, each by a function of the file and of a folder with a secret.
harm = load(Path(__file__).parents[1] / "cache" / "test_checks.py", "bottleneck_harmful_files")


def a_secret_elsewhere(h5, folder):
    """The keys are an external link to a file that holds `s` only."""
    with h5py.File(folder / "secret.h5", "w") as secret:
        secret["keys"] = np.full((10, 32), ord("s"), np.uint8)
    del h5["keys"]
    h5["keys"] = h5py.ExternalLink("secret.h5", "keys")


def newer(h5, folder):
    h5.attrs["format_version"] = 2


def without_version(h5, folder):
    del h5.attrs["format_version"]


def a_key_less(h5, folder):
    harm.replace(h5, "keys", h5["keys"][:-1])


def a_label_too_high(h5, folder):
    _unvouched(h5)
    h5["labels"][3] = 7


def not_a_number(h5, folder):
    _unvouched(h5)
    h5["features"][7, 1] = np.nan


def _unvouched(h5):
    """As another program writes it, which knows nothing of checksums."""
    del h5["checksums"], h5.attrs["created_by"]


HARM = {
    harm.soft: "keys points outside",
    a_secret_elsewhere: "keys points outside",
    harm.external_storage: "keys points outside",
    harm.virtual: "keys is virtual",
    harm.unknown_filter: "filter 32015",
    harm.huge: "declares 5.0 PB in a file of",
    newer: "made by format version 2, this reads 1",
    without_version: "it does not say which",
    a_key_less: "features 10, keys 9",
    a_label_too_high: "label of row 3 is 7",
    not_a_number: "NaN or infinity",
}
COMMANDS = {
    "info": ["info", "x.h5"],
    "export": ["info", "x.h5", "--to", "csv", "-o", "x.csv"],
    "verify": ["verify", "x.h5"],
    "fit": ["fit", "x.h5", "-o", "x.probe"],
    "compare": ["compare", "x.h5", "whole.h5"],
    "merge": ["cache", "merge", "x.h5", "whole.h5", "-o", "merged.h5"],
    "extract": ["extract", "photos", "-o", "x.h5", "--backbone", "stub"],
}
# These read no value of a feature: `verify` is there to look for one that is none.
VALUES_UNSEEN = {"info", "extract"}
CASES = [
    pytest.param(change, command, id=f"{change.__name__}-{command}")
    for change in HARM
    for command in COMMANDS
    if not (change is not_a_number and command in VALUES_UNSEEN)
]


@pytest.fixture
def folder(tmp_path, monkeypatch, stub):
    """A sound file of ten rows, a copy to harm, and a folder of images."""
    rng = np.random.default_rng(0)
    own = bp.Features.from_arrays(rng.normal(size=(10, 4)), ["ants", "bees"] * 5)
    for name in ("x.h5", "whole.h5"):
        own.save(tmp_path / name)
    for number in range(3):
        stub.paint(tmp_path / "photos" / f"{number}.png", number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder):
    """Every file with its bytes, but for locks, which are always empty."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize(("change", "command"), CASES)
def test_each_command_refuses_it_with_exit_code_1(change, command, folder, calls, monkeypatch):
    if change is not a_secret_elsewhere:
        # A file is tried in a child first, which takes a third of a second: once is enough here.
        for module in (checks, verifying):
            monkeypatch.setattr(module, "try_out", lambda path: None)
        monkeypatch.setattr(child, "require_survived", lambda *arguments: None)
    with h5py.File("x.h5", "r+") as h5:
        change(h5, folder)
    before = contents(folder)
    result = CliRunner().invoke(bottleneck, [*COMMANDS[command], "--json"])
    reply = json.loads(result.stdout)
    assert (result.exit_code, reply["exit_code"]) == (1, 1)
    said = result.stdout + result.stderr
    assert HARM[change] in said
    assert "sssss" not in said
    assert "Traceback" not in said
    assert contents(folder) == before
    assert calls.started == 0


@pytest.mark.parametrize("kind", ["..", "absolute", "link", "hard link"])
def test_a_network_whose_weights_lie_elsewhere_is_exit_1(kind, folder, monkeypatch):
    """Refused before ONNX Runtime sees it, which would read the file that is named."""
    secret = folder / "secret.bin"
    secret.write_bytes(bytes(8 * 3 * 3 * 3 * 4))
    (folder / "model").mkdir()
    if kind == "link":
        (folder / "model" / "w.bin").symlink_to(secret)
    elif kind == "hard link":
        (folder / "model" / "w.bin").hardlink_to(secret)
    place = {"..": "../secret.bin", "absolute": str(secret)}.get(kind, "w.bin")
    weights = onnx.TensorProto(name="w", dims=(8, 3, 3, 3), data_type=onnx.TensorProto.FLOAT)
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=place)
    shapes = {"x": ["n", 3, 8, 8], "y": ["n", 8, 6, 6]}
    values = {
        name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["y"])],
        "net",
        [values["x"]],
        [values["y"]],
        [weights],
    )
    (folder / "model" / "m.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    monkeypatch.setattr(onnxruntime, "InferenceSession", _must_not_run)
    command = "extract photos --backbone model/m.onnx -o y.h5 --engine onnx --json --resize 8 "
    command += "--crop 8 --interpolation bilinear --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"
    result = CliRunner().invoke(bottleneck, command.split())
    reply = json.loads(result.stdout)
    assert result.exit_code == reply["exit_code"] == 1
    said = json.dumps(reply["error"])
    assert "outside its folder" in said or "hard links" in said, said
    assert not (folder / "y.h5").exists()


def _must_not_run(*arguments, **options):
    raise AssertionError("ONNX Runtime saw it")
