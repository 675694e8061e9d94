"""Contestants on a few images: whoever computes something else is worth nothing as a comparison."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bottleneck_probe.backbones import network
from bottleneck_probe.bench import measures
from bottleneck_probe.bench.contestant import Spec, build, files_of
from bottleneck_probe.bench.material import of_files
from bottleneck_probe.bench.ours import KeptEngines, forward_alone
from bottleneck_probe.bench.photographs import jpeg
from bottleneck_probe.bench.timm_way import loader_options
from bottleneck_probe.engines import select
from bottleneck_probe.engines.base import Engine
from bottleneck_probe.images.preprocess import Preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).parents[1]))
import networks

BACKBONE = "resnet18"
N = 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("made")
    paths = []
    for i in range(N):
        paths.append(made / f"{i}.jpg")
        paths[-1].write_bytes(jpeg(i, (160, 120)))
    laid = tmp_path_factory.mktemp("laid")
    return str(of_files(paths, laid, "made").folder(N))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Seeded weights that tell images apart."""
    import torchvision

    module = networks.he_(torchvision.models.resnet18(weights=None))
    pixels = [np.asarray(networks.picture(i, (224, 224)), np.float32) / 255 for i in range(4)]
    networks.calibrate_(module, torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
    return str(networks.save(module, tmp_path_factory.mktemp("weights") / "resnet18.pth"))


def _spec(tmp_path, weights, kind, engine="eager", precision="fp32"):
    scratch = tmp_path / f"{kind}-{engine}-{precision}"
    scratch.mkdir()
    return Spec(kind, kind, BACKBONE, weights, "cpu", str(scratch), engine, precision, None, 1)


def _features(tmp_path, weights, folder, kind, **stated):
    spec = _spec(tmp_path, weights, kind, **stated)
    contestant = build(spec)
    contestant.prepare()
    path = tmp_path / f"{kind}.npy"
    found = contestant.run(folder, str(path))
    assert found["images"] == N
    assert found["seconds"] > 0
    assert [each for each in Path(spec.scratch).iterdir() if each.suffix == ".h5"] == []
    return np.load(path), found


@pytest.fixture
def one_worker(monkeypatch):
    """Loaders without forks: a test's process has threads of its own."""
    for name in ("loop", "timm_way"):
        monkeypatch.setattr(f"bottleneck_probe.bench.{name}.devices.cores", lambda: 0)


# timm's reader leaves closing its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["loop", "timm"])
def test_the_features_of_all_are_those_of_the_reference(
    tmp_path, weights, folder, kind, one_worker
):
    reference, found = _features(tmp_path, weights, folder, "ours")
    assert networks.spread(reference) > 0.05
    assert (found["engine"], found["precision"]) == ("eager", "fp32")
    features, _ = _features(tmp_path, weights, folder, kind)
    assert features.shape == reference.shape == (N, 512)
    assert networks.error(features, reference) < 1e-3
    assert measures.cosines(features, reference).min() > 0.99999


def _opened(file):
    with Image.open(file) as image:
        return image.convert("RGB")


def test_img2vec_computes_with_the_same_weights_on_its_own_pixels(tmp_path, weights, folder):
    """Its transforms as its source has them, through the network of this package."""
    features, _ = _features(tmp_path, weights, folder, "img2vec")
    backbone = _spec(tmp_path, weights, "loop").resolve()
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float, scale=True),
            v2.Resize((224, 224)),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    images = torch.stack([transform(_opened(file)) for file in files_of(folder)])
    with torch.inference_mode():
        wanted = network.load(backbone)[0](images)[0].numpy()
    assert networks.error(features, wanted) < 1e-4


def test_a_run_that_starts_its_engine_is_done_again_and_the_start_is_told(
    tmp_path, weights, folder
):
    spec = _spec(tmp_path, weights, "ours")
    ours = build(spec)
    first = ours.run(folder)
    again = ours.run(folder)
    assert first["start_s"] > 0
    assert again["start_s"] == 0.0
    # Outside of a run the pipeline starts its engines itself.
    assert select.start.__module__ == "bottleneck_probe.engines.select"
    alone = ours.forward(folder, 0.1)
    assert alone["images"] >= 1
    assert alone["seconds"] >= 0.1


class Counting(Engine):
    name = "counting"

    def __init__(self, streams):
        super().__init__(batch_size=2, size=(4, 4), feature_sizes=[1], device="cpu")
        self.streams = streams
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return [images.reshape(len(images), -1).mean(axis=1, keepdims=True).astype(np.float32)]


@pytest.mark.parametrize("streams", [1, 3])
def test_forward_counts_what_all_streams_have_done(streams):
    engine = Counting(streams)
    found = forward_alone(engine, np.zeros((2, 4, 4, 3), np.uint8), 0.05)
    assert found["images"] <= 2 * (engine.calls - 1)  # the first is the warm-up
    assert found["images"] >= 2 * streams


def test_a_stream_that_fails_fails_the_measurement():
    engine = Counting(2)
    batch = np.zeros((2, 4, 4, 3), np.uint8)

    def forward(images):
        engine.calls += 1
        if engine.calls > 3:
            raise RuntimeError("lost the card")
        return [np.zeros((2, 1), np.float32)]

    engine.forward = forward
    with pytest.raises(RuntimeError, match="lost the card"):
        forward_alone(engine, batch, 5.0)


def test_an_engine_is_kept_for_the_same_choice_and_no_other(tmp_path, weights, monkeypatch):
    started = []

    def start(choice, backbone, reporter):
        started.append(choice)
        return Counting(1), choice

    monkeypatch.setattr(select, "start", start)
    kept = KeptEngines()
    backbone = _spec(tmp_path, weights, "loop").resolve()
    choice = select.Choice("eager", "", "cpu", 4, "because")
    other = select.Choice("eager", "", "cpu", 8, "because")
    with kept.in_use():
        a, _ = select.start(choice, backbone, None)
        b, _ = select.start(
            select.Choice("eager", "", "cpu", 4, "for another reason"), backbone, None
        )
        c, _ = select.start(other, backbone, None)
    assert a is b
    assert a is not c
    assert len(started) == kept.started == 2
    assert kept.last()[0] is c
    assert select.start is start


SIDES = st.integers(16, 1200)


@settings(deadline=None, max_examples=300)
@given(SIDES, SIDES)
def test_timm_resizes_to_the_very_side(resize, crop):
    """It gets a share and computes floor(crop / share): a rounded share would lose a pixel."""

    class Stub:
        preprocessing = Preprocessing(resize, (crop, crop), "bicubic", (0.5,) * 3, (0.5,) * 3)

    share = loader_options(Stub)["crop_pct"]
    assert math.floor(crop / share) == resize


# torchvision's own: its decoders move to TorchCodec.
@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")
def test_decoders_agree_and_one_that_fails_is_left_out(tmp_path, weights, folder, monkeypatch):
    from bottleneck_probe.bench import ceilings

    def broken(file, p):
        raise ImportError("no such library")

    monkeypatch.setitem(ceilings.DECODERS, "broken", broken)
    contestant = build(_spec(tmp_path, weights, "ceilings"))
    threads = torch.get_num_threads()
    try:
        contestant.prepare()
        checked = contestant.check(folder)
        assert "broken" not in checked["decoders"]
        assert "no such library" in checked["left_out"]["broken"]
        assert len(checked["decoders"]) == len(ceilings.DECODERS) - 1
        assert checked["levels"]["Pillow"] == 0
        assert max(checked["levels"].values()) <= 2
        for decoder in checked["decoders"]:
            found = contestant.decode(decoder, folder, 0.01)
            assert found["images"] % N == 0
            assert found["images"] >= N
    finally:
        torch.set_num_threads(threads)
