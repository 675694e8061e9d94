"""Preprocessing equals torchvision's PIL transforms in every pixel."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from bottleneck_probe.errors import InputError, RecipeError
from bottleneck_probe.images import jpeg as jpeg_module
from bottleneck_probe.images import resample as resample_module
from bottleneck_probe.images.color import BadImage
from bottleneck_probe.images.payload import to_image
from bottleneck_probe.images.preprocess import (
    INTERPOLATIONS,
    Preprocessing,
    apply,
    decoded,
    frames,
    get_ready,
)
from bottleneck_probe.recipe import canonical_json, fingerprint
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

HALF = (0.5, 0.5, 0.5)

BAD_FRAMINGS = ["stretch", "tiles", "tiles:0x3", "tiles:3x0", "tiles:17x1", "tiles:2x3x4", "", None]
BAD_FRAMINGS += ["tiles:-1x3", "tiles:٢x٣", "Whole", "tiles:2x3\n", 3]
BAD_RANGES = ["bits:0", "bits:17", "bits:", "bits:1.5", "bits:٣", "9:3", "3:3", "nan:1", "1:nan"]
BAD_RANGES += ["0:inf", "-1e308:1e308", "0:1e999", "1_0:20", "5", ":", "0:", "0:1:2", "", "0:1\n"]
BAD_RANGES += ["FULL", None, 12, (0, 4095)]


def make(
    resize: int | tuple = 256, crop: tuple = (224, 224), how: str = "bicubic"
) -> Preprocessing:
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


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, st.sampled_from(INTERPOLATIONS), st.data())
def test_an_exact_size_is_torchvisions_too(width: int, height: int, how: str, data: st.DataObject):
    """What timm calls squash, and most Hugging Face configurations do."""
    pair = st.tuples(st.integers(1, 330), st.integers(1, 330))
    image, p = noise(width, height), make(data.draw(pair), data.draw(pair), how)
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


# What release after release must find again, or all features would be computed anew.
LITE0_PREPROCESSING = (
    b'{"color":{"alpha":"over white","bool":"0 or 255","cmyk":"pillow convert",'
    b'"float":"0..1 * 255, 0..255 as is, 0..65535 / 257, else min..max to 0..255",'
    b'"frame":"first","icc":"ignored",'
    b'"int":"0..255 as is, 0..65535 / 257, else min..max to 0..255","mode":"RGB",'
    b'"orientation":"exif","uint16":"value / 257, rounded","uint16_color_file":"high byte"},'
    b'"crop":[224,224],"framing":"crop","interpolation":"bicubic","jpeg":"islow",'
    b'"mean":[0.5,0.5,0.5],"resize":256,"std":[0.5,0.5,0.5]}'
)


def test_the_fingerprint_of_the_default_stays():
    recipe = make().to_recipe()
    assert canonical_json(recipe) == LITE0_PREPROCESSING
    whole = {
        "modality": "image",
        "backbone": "efficientnet_lite0",
        "weights_sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "preprocessing": recipe,
        "precision": "fp32",
        "resampler": "pillow",
    }
    assert fingerprint(whole, {"node": "penultimate", "pooling": "none"}) == (
        "a5e276792fda059ebf0cd27eed28c71399383d1847a92c73f2d855824de51ebb"
    )


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({"range": "bits:12"}, {"range", "color"}),
        ({"range": "-1e3:400"}, {"range", "color"}),
        ({"framing": "tiles:2x3"}, {"framing"}),
        ({"framing": "pad"}, {"framing"}),
        ({"resize": (240, 320)}, {"resize"}),
        ({"decode": "scaled"}, {"decode"}),
    ],
    ids=["bits", "window", "tiles", "pad", "squash", "scaled"],
)
def test_what_is_asked_for_stands_in_the_recipe_and_nothing_else(change: dict, keys: set[str]):
    usual = make().to_recipe()
    p = replace(make(), **change)
    recipe = json.loads(canonical_json(p.to_recipe()))
    assert {key for key in recipe if recipe[key] != usual.get(key)} == keys
    assert Preprocessing.from_recipe(recipe) == p


def test_two_spellings_of_one_meaning_are_one_recipe():
    def spelled(**change: object) -> bytes:
        return canonical_json(replace(make(), **change).to_recipe())

    assert spelled(range="0:4095.0") == spelled(range="+0:4.095e3")
    assert spelled(range="bits:08") == spelled(range="bits:8")
    assert spelled(framing="tiles:02x3") == spelled(framing="tiles:2x3")
    assert spelled(resize=[240, np.int64(320)]) == spelled(resize=(240, 320))


def test_a_recipe_whose_range_and_words_differ_is_refused():
    recipe = replace(make(), range="bits:12").to_recipe()
    with pytest.raises(RecipeError, match="color"):
        Preprocessing.from_recipe({**recipe, "range": "bits:11"})
    with pytest.raises(RecipeError, match="color"):
        Preprocessing.from_recipe({k: v for k, v in recipe.items() if k != "range"})


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
        {"decode": "half"},
        *({"framing": value} for value in BAD_FRAMINGS),
        *({"range": value} for value in BAD_RANGES),
        {"resize": 0},
        {"resize": True},
        {"resize": 8.5},
        {"resize": None},
        {"resize": (8,)},
        {"resize": (8, 0)},
        {"crop": (0, 5)},
        {"crop": (8, 8, 8)},
        {"crop": 8},
        {"std": (0.5, 0.0, 0.5)},
        {"std": (0.5, 0.5, float("inf"))},
        {"mean": (0.5,)},
        {"mean": (0.5, float("nan"), 0.5)},
    ],
    ids=lambda change: "-".join(f"{key}-{value}" for key, value in change.items()),
)
def test_bad_values_are_refused_at_the_door(change: dict):
    fields = {"resize": 8, "crop": (8, 8), "interpolation": "box", "mean": HALF, "std": HALF}
    with pytest.raises(InputError, match=f"{next(iter(change))} is") as caught:
        Preprocessing(**{**fields, **change})
    assert caught.value.expected
    if next(iter(change)) in ("framing", "range"):
        assert repr(next(iter(change.values()))) in caught.value.what
        assert caught.value.where == f"--{next(iter(change))}"
        assert caught.value.next


def jpeg(width: int, height: int, orientation: int = 1, mode: str = "RGB") -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    soft = noise(max(2, width // 40), max(2, height // 40)).resize((width, height))
    soft.convert(mode).save(file, "JPEG", exif=exif.tobytes())
    return file.getvalue()


@pytest.mark.parametrize(
    ("size", "change", "expected"),
    [
        ((1000, 800), {}, (500, 400)),  # twice 200 on the short side
        ((798, 1000), {}, (798, 1000)),
        ((1600, 1600), {}, (400, 400)),
        ((3201, 4000), {}, (401, 500)),
        ((1000, 800), {"resize": (150, 250)}, (500, 400)),
        ((998, 800), {"resize": (150, 250)}, (998, 800)),
        ((1000, 1000), {"framing": "whole"}, (250, 250)),
        ((1000, 500), {"framing": "pad"}, (250, 125)),
        ((1600, 1000), {"framing": "tiles:1x2"}, (800, 500)),
        ((500, 375), {}, (500, 375)),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_scaled_decoding_leaves_twice_what_is_needed(
    size: tuple[int, int], change: dict, expected: tuple[int, int], turned: bool
):
    """Measured on the upright image; libjpeg halves once, twice or three times, and rounds up."""
    p = replace(make(200, (110, 120)), decode="scaled", **change)
    data = jpeg(*(size[::-1] if turned else size), orientation=6 if turned else 1)
    found = decoded(data, p).array
    assert found.shape == (expected[1], expected[0], 3)
    assert frames(found, p).shape == (p.views, *p.crop, 3)
    assert decoded(data, replace(p, decode="full")).array.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_scaled_decoding_is_one_for_all_modes(mode: str):
    p = replace(make(100, (80, 80)), decode="scaled")
    found = decoded(jpeg(1000, 800, mode=mode), p).array
    assert found.shape == (200, 250, 3)
    whole = decoded(jpeg(1000, 800, mode=mode), make(100, (80, 80))).array
    gap = np.abs(apply(found, p).astype(float) - apply(whole, p))
    assert gap.mean() < 1.5


def test_scaled_decoding_is_of_jpeg_alone():
    file = io.BytesIO()
    noise(900, 900).save(file, "PNG")
    p = replace(make(100, (80, 80)), decode="scaled")
    np.testing.assert_array_equal(decoded(file.getvalue(), p).array, np.asarray(noise(900, 900)))


def test_full_decoding_is_that_of_the_image():
    data = jpeg(1000, 800)
    np.testing.assert_array_equal(decoded(data, make(50)).array, np.asarray(to_image(data)))


def test_who_shares_a_decoded_image():
    """Any two that read the whole file; of scaled ones those that need the same size."""
    p = make(200, (100, 100))
    scaled = replace(p, decode="scaled")
    assert p.decoding == replace(p, resize=90, framing="pad").decoding
    assert p.decoding != replace(p, range="bits:12").decoding
    assert scaled.decoding == replace(scaled, interpolation="box").decoding
    others = [p, replace(scaled, resize=90), replace(scaled, crop=(50, 50))]
    others += [replace(scaled, framing="whole"), replace(scaled, range="bits:12")]
    assert scaled.decoding not in [each.decoding for each in others]


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, st.sampled_from(["crop", "whole", "pad", "tiles:2x3"]))
def test_an_array_is_framed_as_the_image_is(width: int, height: int, framing: str):
    image, p = noise(width, height), replace(make(9, (8, 6)), framing=framing)
    np.testing.assert_array_equal(frames(np.asarray(image), p), frames(image, p))


def test_tiles_that_would_fill_the_memory_are_refused():
    with pytest.raises(InputError, match=r"16x16 .* 268 MP"):
        replace(make(), framing="tiles:16x16", crop=(1024, 1024))
    assert replace(make(), framing="tiles:16x16", crop=(600, 600)).views == 256


def test_several_views_are_no_single_one():
    with pytest.raises(ValueError, match="6 views"):
        apply(noise(30, 20), replace(make(), framing="tiles:2x3"))


@settings(deadline=None, max_examples=30)
@given(SIDES, SIDES, st.sampled_from(["crop", "whole", "pad"]))
def test_one_view_is_the_first_of_one(width: int, height: int, framing: str):
    image, p = noise(width, height), replace(make(9, (8, 6)), framing=framing)
    assert p.views == 1
    assert frames(image, p).shape == (1, 8, 6, 3)
    np.testing.assert_array_equal(frames(image, p)[0], apply(image, p))


def test_what_takes_long_at_first_can_be_done_beforehand(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jpeg_module, "_verdict", [])
    monkeypatch.setattr(resample_module, "_passes", [])
    get_ready()
    assert jpeg_module._verdict == [True]
    assert len(resample_module._passes) == 1
