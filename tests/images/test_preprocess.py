"""Preprocessing equals torchvision's PIL transforms in every pixel."""

import json

import numpy as np
import pytest
from bottleneck_probe.errors import InputError, RecipeError
from bottleneck_probe.images.color import BadImage
from bottleneck_probe.images.preprocess import INTERPOLATIONS, Preprocessing, apply
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

HALF = (0.5, 0.5, 0.5)


def make(resize: int = 256, crop: tuple = (224, 224), how: str = "bicubic") -> Preprocessing:
    return Preprocessing(resize, crop, how, HALF, HALF)


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def reference(image: Image.Image, p: Preprocessing) -> np.ndarray:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    how = InterpolationMode(p.interpolation)
    return np.asarray(Compose([Resize(p.resize, how), CenterCrop(p.crop)])(image))


SIDES = st.integers(1, 700)


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, st.sampled_from(INTERPOLATIONS), st.data())
def test_bitwise_equal_to_torchvision(width: int, height: int, how: str, data: st.DataObject):
    # A short side of 1 beside one of 700 would grow 700-fold: small targets keep the test short.
    resize = data.draw(st.integers(1, 40 if min(width, height) < 60 else 300))
    crop = data.draw(st.tuples(st.integers(1, 330), st.integers(1, 330)))
    image, p = noise(width, height), make(resize, crop, how)
    np.testing.assert_array_equal(apply(image, p), reference(image, p))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (256, 256), (224, 224), (257, 255)])
@pytest.mark.parametrize("how", INTERPOLATIONS)
def test_the_usual_sizes(size: tuple[int, int], how: str):
    image, p = noise(*size), make(how=how)
    np.testing.assert_array_equal(apply(image, p), reference(image, p))


@pytest.mark.parametrize("crop", [(300, 300), (301, 200), (200, 301), (225, 224)])
def test_a_crop_beyond_the_image_is_black(crop: tuple[int, int]):
    image, p = noise(300, 301), make(200, crop)
    out = apply(image, p)
    np.testing.assert_array_equal(out, reference(image, p))
    assert out.shape == (*crop, 3)


def test_the_result_can_be_written_to():
    out = apply(noise(30, 20), make(8, (8, 8)))
    assert (out.dtype, out.flags.writeable, out.flags.c_contiguous) == (np.uint8, True, True)


def test_tiny_images_work():
    assert apply(noise(1, 1), make()).shape == (224, 224, 3)
    assert apply(noise(1, 90), make()).shape == (224, 224, 3)


def test_extreme_shapes_are_refused_before_memory_is_taken():
    with pytest.raises(BadImage, match=r"10000x1 is too long and narrow.* 2560000x256 = 655 MP"):
        apply(noise(10000, 1), make())


def test_recipe_round_trip():
    p = Preprocessing(256, (224, 192), "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    recipe = json.loads(json.dumps(p.to_recipe()))
    assert Preprocessing.from_recipe({**recipe, "backbone": "x"}) == p
    assert recipe["jpeg"] == "islow"
    assert recipe["color"]["alpha"] == "over white"


@pytest.mark.parametrize("key", ["color", "jpeg", "resize"])
def test_a_recipe_that_cannot_be_followed(key: str):
    recipe = make().to_recipe()
    changed = {**recipe, "color": {**recipe["color"], "alpha": "over black"}, "jpeg": "ifast"}
    with pytest.raises(RecipeError, match=key):
        Preprocessing.from_recipe({**recipe, key: changed[key]} if key != "resize" else {})


@pytest.mark.parametrize(
    "change",
    [
        {"interpolation": "cubic"},
        {"framing": "stretch"},
        {"resize": 0},
        {"crop": (0, 5)},
        {"std": (0.5, 0.0, 0.5)},
        {"mean": (0.5,)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_bad_values_are_refused_at_the_door(change: dict):
    fields = {"resize": 8, "crop": (8, 8), "interpolation": "box", "mean": HALF, "std": HALF}
    with pytest.raises(InputError, match=next(iter(change))):
        Preprocessing(**{**fields, **change})
