"""Images from memory: arrays, PIL images, bytes, tensors or a data set in, samples out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from .color import BadImage
from .exclusive import exclusive
from .labels import as_text
from .payload import is_tensor, payload, tensor_pixels
from .sample import ImageSet, Sample


def is_image(value: Any) -> bool:
    """Whether a value is one image in memory: bytes, array, tensor or PIL image."""
    return (
        isinstance(value, (bytes, bytearray, memoryview, np.ndarray))
        or is_tensor(value)
        or hasattr(value, "getexif")  # a PIL image, told without importing PIL
    )


def from_memory(inputs: Any, labels: Sequence[Any] | None) -> ImageSet:
    """Read images from memory as samples; their ids are their places, zero-padded.

    Parameters
    ----------
    inputs : list, ndarray of shape (n, h, w, 3), one image, or torch Dataset
        A data set gives an image, or a pair of image and target. It is asked for pixels later,
        one by one; only its targets are read now.
    labels : sequence or None
        Class of each image; None takes a data set's own targets.

    Returns
    -------
    ImageSet
        With an empty root.

    Raises
    ------
    InputError
        If it holds no images, or `labels` has another length.
    """
    notes: list[str] = []
    if is_image(inputs) and not (isinstance(inputs, np.ndarray) and inputs.ndim == 4):
        items: Sequence[Any] = [inputs]
    elif isinstance(inputs, np.ndarray):
        items = list(inputs)
    elif isinstance(inputs, (list, tuple)) and not (inputs and isinstance(inputs[0], tuple)):
        items = inputs
    else:
        return _from_dataset(inputs, labels)
    for place, item in enumerate(items):
        if not is_image(item):
            raise InputError(
                f"item {place} of the list is a {type(item).__name__}",
                expected="all paths, or all bytes, arrays, uint8 tensors or PIL images",
            )
        _refuse_float(item, place)
    return _image_set(list(items), _labels(labels, len(items)), notes)


def _image_set(sources: list[Any], labels: list[str | None], notes: list[str]) -> ImageSet:
    if not sources:
        raise InputError("0 images in the list", expected="at least one image")
    digits = len(str(len(sources) - 1))
    samples = [
        Sample(f"{place:0{digits}d}", source, label)
        for place, (source, label) in enumerate(zip(sources, labels, strict=True))
    ]
    places = list(range(len(samples)))
    return ImageSet("", "images", samples, 0, notes, places, list(places))


def _labels(labels: Sequence[Any] | None, count: int) -> list[str | None]:
    return [None] * count if labels is None else read_labels(labels, count)


def read_labels(labels: Sequence[Any], count: int) -> list[str | None]:
    """Class names of a sequence that is aligned with the images; None, NaN and blank are none."""
    values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if len(values) != count:
        raise InputError(f"{len(values)} labels for {count} images", expected="one for each image")
    # NaN is not equal to itself, and pandas.NA has no truth value.
    missing = [v is None or type(v).__name__ in ("NAType", "NaTType") or v != v for v in values]
    texts = ["" if m else as_text(v) for v, m in zip(values, missing, strict=True)]
    return [text if text.strip() else None for text in texts]


def _refuse_float(item: Any, place: int) -> None:
    if is_tensor(item):
        try:
            tensor_pixels(item)
        except BadImage as error:
            raise InputError(
                f"item {place} is {error}",
                expected="uint8 pixels: preprocessing belongs to the recipe",
                next="leave out ToTensor and Normalize",
            ) from error


def _from_dataset(dataset: Any, labels: Sequence[Any] | None) -> ImageSet:
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise InputError(
            f"images cannot be read from a {type(dataset).__name__}",
            expected="a folder, a table, a list of paths or images, or a data set with a length",
            next="make a list of it",
        )
    count = len(dataset)
    if not count:
        raise InputError("0 images in the data set", expected="at least one image")
    notes: list[str] = []
    first = _ask(dataset, 0)
    _refuse_float(_image_of(first), 0)
    if not is_image(_image_of(first)) and not isinstance(_image_of(first), (str, os.PathLike)):
        raise InputError(
            f"item 0 of the data set is a {type(_image_of(first)).__name__}",
            expected="an image, or a pair of image and target",
        )
    if labels is not None:
        names = read_labels(labels, count)
    elif isinstance(first, tuple):
        targets = _known_targets(dataset)
        if targets is None:
            notes.append("The data set was read once for its targets; its pixels are read again.")
            targets = [_ask(dataset, i)[1] for i in range(count)]
        classes = _attribute(dataset, "classes")
        names = [_class_name(target, classes, i) for i, target in enumerate(targets)]
    else:
        names = [None] * count
    return _image_set([_Item(dataset, i) for i in range(count)], names, notes)


def _lock_of(dataset: Any) -> Any:
    """What the calls of a data set share: two `Subset` of one data set read from one file."""
    while hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return dataset


def _ask(dataset: Any, place: int) -> Any:
    with exclusive(_lock_of(dataset)):
        return dataset[place]


class _Item:
    """One image of a data set, fetched when it is called: pixels of all would fill the memory.

    Data sets are made for one thread a copy: many seek and read in one open file, or fill one
    buffer again and again. So only one thread asks at a time, and the pixels are brought out before
    the next may ask; a path is read, and all is decoded and resized, outside.
    """

    def __init__(self, dataset: Any, place: int) -> None:
        self.dataset, self.place = dataset, place

    def __call__(self) -> Any:
        with exclusive(_lock_of(self.dataset)):
            image = _image_of(self.dataset[self.place])
            if isinstance(image, (str, os.PathLike)):
                return image
            if not is_image(image):
                raise BadImage(f"item {self.place} of the data set is a {type(image).__name__}")
            content = payload(image)
            # An array may be a view of what the next call overwrites; bytes are a copy already.
            return content.copy() if isinstance(content, np.ndarray) else content


def _image_of(item: Any) -> Any:
    return item[0] if isinstance(item, (tuple, list)) and item else item


def _known_targets(dataset: Any) -> list[Any] | None:
    """All targets without reading an image, as torchvision's data sets and `Subset` keep them."""
    if getattr(dataset, "target_transform", None) is not None:
        return None
    targets = getattr(dataset, "targets", None)
    if targets is not None and len(targets) == len(dataset):
        return targets.tolist() if hasattr(targets, "tolist") else list(targets)
    indices, inner = getattr(dataset, "indices", None), getattr(dataset, "dataset", None)
    if indices is not None and inner is not None and len(indices) == len(dataset):
        known = _known_targets(inner)
        return None if known is None else [known[i] for i in indices]
    return None


def _attribute(dataset: Any, name: str) -> Any:
    """An attribute of a data set, or of the one that a `Subset` was taken from."""
    while not hasattr(dataset, name) and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return getattr(dataset, name, None)


def _class_name(target: Any, classes: Sequence[str] | None, place: int) -> str | None:
    item: Callable[[], Any] | None = getattr(target, "item", None)
    if item is not None:
        try:
            target = item()
        except (ValueError, RuntimeError):  # more than one number
            item = None
    if target is None or isinstance(target, str):
        return target or None
    if not isinstance(target, (int, float)):
        raise InputError(
            f"the target of item {place} is a {type(target).__name__}, not one class",
            expected="a class name or number",
            next="give the classes with labels=[...]",
        )
    if classes is not None and isinstance(target, int) and 0 <= target < len(classes):
        return str(classes[target])
    return str(target)
