"""The preprocessing of a Hugging Face folder, proved against transformers' own image processor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..images.preprocess import CORNERS, INTERPOLATIONS, Preprocessing, apply
from .transformers_code import refuse_processor
from .transformers_models import quiet

_OPTIONS = "--resize, --crop, --interpolation, --mean and --std"


def preprocessing(folder: Path) -> dict[str, Any]:
    """Fields of `Preprocessing` for a folder's ``preprocessor_config.json``, proved on images.

    A reading of the configuration is taken only if it gives the pixels that transformers' own image
    processor gives, in its version on Pillow.

    Raises
    ------
    InputError
        If there is no such file, if it wants code of the folder run, or if the processor does
        something else as well.
    """
    refuse_processor(folder)
    with quiet() as transformers:
        try:
            processor = transformers.AutoImageProcessor.from_pretrained(
                str(folder), local_files_only=True, backend="pil", trust_remote_code=False
            )
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise _unsaid(
                f"{folder.name} has no usable preprocessor_config.json: {reason}"
            ) from error
        for candidate in _candidates(processor):
            if _agrees(candidate, processor):
                return {
                    "resize": candidate.resize,
                    "crop": candidate.crop,
                    "interpolation": candidate.interpolation,
                    "mean": candidate.mean,
                    "std": candidate.std,
                    "corner": candidate.corner,
                }
    raise _unsaid(
        f"{type(processor).__name__} of {folder.name} does something else than resize, crop and "
        "normalise"
    )


def _unsaid(what: str) -> InputError:
    return InputError(
        what,
        expected="a preprocessing that can be followed to the pixel",
        where="--backbone",
        next=f"state it with {_OPTIONS}",
    )


def _candidates(processor: Any) -> Iterator[Preprocessing]:
    """What a processor's configuration may mean; the class decides, and `_agrees` tells."""
    from PIL import Image

    size, cropped = processor.size, processor.crop_size
    if not processor.do_resize or size is None:
        return
    short, pair = size.shortest_edge, (size.height, size.width)
    fraction = getattr(processor, "crop_pct", None)
    resizes: list[int | tuple[int, int]] = []
    if None not in pair:
        resizes.append(pair)
    if short:
        # ConvNeXt and PoolFormer enlarge before the crop, LeViT by a ratio of its own.
        resizes += [short, *([int(short / fraction)] if fraction else []), int(256 / 224 * short)]
        resizes.append((short, short))
    crops = [(short, short) if short else pair]
    if cropped is not None and processor.do_center_crop:
        crops.insert(0, (cropped.height, cropped.width))
    interpolation = Image.Resampling(int(processor.resample)).name.lower()
    if interpolation not in INTERPOLATIONS:
        return
    for resize in resizes:
        for crop in crops:
            for mean, std in _normalisations(processor):
                for corner in CORNERS if None not in crop else ():
                    yield Preprocessing(resize, crop, interpolation, mean, std, corner=corner)


def _normalisations(processor: Any) -> Iterator[tuple[Any, Any]]:
    mean, std = [0.0] * 3, [1.0] * 3
    if processor.do_normalize:
        mean, std = list(processor.image_mean), list(processor.image_std)
        if len(mean) != 3 or len(std) != 3:
            return
    scale = processor.rescale_factor * 255 if processor.do_rescale else 255.0
    if abs(scale - 1) > 1e-6:  # the network takes 0..255, or another range
        mean, std = [m / scale for m in mean], [s / scale for s in std]
    yield tuple(mean), tuple(std)
    # EfficientNet divides by the standard deviation a second time (`include_top`).
    yield tuple(mean), tuple(s * s for s in std)


def _agrees(p: Preprocessing, processor: Any) -> bool:
    """Whether a preprocessing gives a processor's pixels, on a wide and a high image."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for shape in _probe_sizes(p):
        image = Image.fromarray(generator.integers(0, 256, (*shape, 3), np.uint8))
        theirs = processor(images=image, return_tensors="np")["pixel_values"][0]
        if theirs.shape != (3, *p.crop):
            return False
        mean, std = np.array(p.mean, np.float32), np.array(p.std, np.float32)
        ours = ((apply(image, p).astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)
        if np.abs(ours - theirs).max() > 1e-4 * max(1.0, float(np.abs(theirs).max())):
            return False
    return True


def _probe_sizes(p: Preprocessing) -> list[tuple[int, int]]:
    """Sizes of images, odd and even rests beside the crop among them."""
    if isinstance(p.resize, tuple):
        return [(96, 131), (131, 96)]
    longs = [p.resize + 62 + odd for odd in (0, 1, 2, 3)]
    return [
        *((p.resize, long) for long in longs),
        *((long, p.resize) for long in longs),
        (2 * p.resize, 2 * longs[0]),
    ]
