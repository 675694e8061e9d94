"""What a sample's source holds: a source in, its bytes or pixels, their key, and the image out.

Three steps, so that a pipeline can hash a file, find its feature in the cache, and never decode it.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .color import BadImage
from .decode import MAX_PIXELS, Target, decode, decode_pixels, from_pixels, wide_pixels
from .exclusive import exclusive
from .limits import DEFAULT, Limits, too_many_bytes
from .origin import Origin
from .value_range import narrow_range

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "Fetched",
    "Pixels",
    "fetch",
    "is_tensor",
    "key_of",
    "narrow_range",
    "payload",
    "read",
    "tensor_pixels",
    "to_image",
    "to_pixels",
]

# Size in bytes, mtime_ns, ctime_ns and inode of a file.
Status = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a source held at one moment.

    Attributes
    ----------
    content : bytes or ndarray
        As `payload` returns it.
    status : tuple of int or None
        Size in bytes, mtime_ns, ctime_ns and inode of the very file that was read, the same before
        and after; None for what is no file, or was renamed or the like meanwhile.
    """

    content: bytes | np.ndarray
    status: Status | None = None


@dataclass(frozen=True, slots=True)
class Pixels:
    """A decoded image.

    Attributes
    ----------
    array : ndarray of shape (h, w, 3), uint8
        Upright RGB.
    range_used : float or None
        As `value_range.note_use` found it; None for images of 8 bits.
    several : bool
        Whether the file holds further frames or pages, which were left out.
    """

    array: np.ndarray
    range_used: float | None = None
    several: bool = False


def read(source: str, limits: Limits = DEFAULT) -> bytes:
    """Read a regular file once, whole, and never wait for it.

    Parameters
    ----------
    source : str
        Path for `os.open`.
    limits : Limits
        How large it may be.

    Returns
    -------
    bytes
        What the file held at one moment.

    Raises
    ------
    BadImage
        If it is missing, forbidden, no regular file, too large, or changes while it is read.
    """
    return _fetch_file(source, limits.max_bytes)[0]


def _fetch_file(source: str, max_bytes: int) -> tuple[bytes, Status | None]:
    try:
        for _ in range(2):
            data, before, after = _read_once(source, max_bytes)
            if before[:2] == after[:2]:
                # Renamed meanwhile, the bytes are whole; but what the status was of is uncertain.
                return data, after if before == after else None
    except OSError as error:
        raise BadImage(os_reason(error, source)) from error
    except ValueError as error:  # a NUL in the path: no system has such a file
        raise BadImage("no such file") from error
    except MemoryError as error:
        raise BadImage("a file that needs more memory than there is") from error
    raise BadImage("changed while read")


def _read_once(source: str, max_bytes: int) -> tuple[bytes, Status, Status]:
    """The bytes of a file, and the status of the descriptor before and after they were read."""
    # Twice: opening a device can have effects of its own, and between `stat` and `open` the path
    # may have become a FIFO, which O_NONBLOCK opens without waiting for a writer.
    _check_regular(os.stat(source), max_bytes)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(source, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        before = os.fstat(descriptor)
        _check_regular(before, max_bytes)
        data = _read_all(descriptor, before.st_size, max_bytes)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return data, _status(before), _status(after)


def _read_all(descriptor: int, size: int, max_bytes: int) -> bytes:
    # One byte more than there is: getting fewer than asked for says that this was the end.
    data = os.read(descriptor, size + 1)
    if len(data) == size:
        return data
    parts = [data]  # a file that grew, one of unknown size (/proc), or a system that reads less
    held = len(data)
    while parts[-1]:
        parts.append(os.read(descriptor, 1 << 20))
        held += len(parts[-1])
        if held > max_bytes:
            raise BadImage(too_many_bytes(held, max_bytes))
    return b"".join(parts)


def _status(found: os.stat_result) -> Status:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _check_regular(status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BadImage("not a regular file")
    if status.st_size > max_bytes:
        raise BadImage(too_many_bytes(status.st_size, max_bytes))


def os_reason(error: OSError, source: str) -> str:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return "broken link" if os.path.islink(source) else "no such file"
    if isinstance(error, PermissionError):
        return "no permission"
    if error.errno == errno.ELOOP:
        return "broken link"
    name = errno.errorcode.get(error.errno or 0, "error")
    return f"cannot be read: {name}, {error.strerror or error}"


def payload(source: Any, limits: Limits = DEFAULT) -> bytes | np.ndarray:
    """Fetch what is hashed and decoded: the bytes of a file, or pixels.

    Parameters
    ----------
    source : str, bytes, ndarray, PIL.Image.Image, torch.Tensor or callable
        A sample's source. A callable takes no argument and returns one of the others.
    limits : Limits
        How large it may be.

    Returns
    -------
    bytes or ndarray
        Encoded bytes; or an array, for a PIL image its upright RGB pixels (h, w, 3) uint8, and for
        one of more than 8 bits its own values (h, w), which a range can still be applied to.

    Raises
    ------
    BadImage
        If there is nothing to decode.
    """
    if isinstance(source, (str, os.PathLike)):
        return read(os.fspath(source), limits)
    if isinstance(source, Origin):
        return source.read(limits.max_bytes)[0]
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if is_tensor(source):
        return tensor_pixels(source)
    if isinstance(source, np.ndarray):
        if source.dtype.hasobject:  # references: neither a key nor a colour can be made of them
            raise BadImage("an array of objects; numbers were expected")
        return source
    if callable(source) and not hasattr(source, "getexif"):
        try:
            produced = source()
        except BadImage:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise BadImage(f"its data set raised {type(error).__name__}: {text}") from error
        if callable(produced) and not hasattr(produced, "getexif"):
            raise BadImage(f"its data set gave a function ({type(produced).__name__}), no image")
        return payload(produced, limits)
    # A PIL image that was only opened reads its file now, and that at most one thread may do: the
    # same object may stand in a list many times, and several may share an open file.
    with exclusive(source):
        file = getattr(source, "fp", None)
        with nullcontext() if file is None else exclusive(file):
            wide = wide_pixels(source, max_pixels=limits.max_pixels)
            if wide is not None:
                return wide
            return np.asarray(from_pixels(source, max_pixels=limits.max_pixels))


def fetch(source: Any, limits: Limits = DEFAULT) -> Fetched:
    """`payload` together with the status of the file that was read.

    Raises
    ------
    BadImage
        If there is nothing to decode.
    """
    if isinstance(source, (str, os.PathLike)):
        return Fetched(*_fetch_file(os.fspath(source), limits.max_bytes))
    if isinstance(source, Origin):
        return Fetched(*source.read(limits.max_bytes))
    return Fetched(payload(source, limits))


def key_of(content: bytes | np.ndarray) -> bytes:
    r"""Give the key of a payload: BLAKE3 of the encoded bytes, or of dtype, shape and pixels.

    Parameters
    ----------
    content : bytes or ndarray
        What `payload` returned.

    Returns
    -------
    bytes of length 32
        For an array the digest of ``"<u2(4,6)\n"`` (type in NumPy's notation, little-endian, and
        shape) followed by its values in C order.

    Examples
    --------
    >>> len(key_of(np.zeros((4, 6), dtype=np.uint16)))
    32
    """
    from blake3 import blake3

    if isinstance(content, bytes):
        return blake3(content).digest()
    # The same numbers on a big-endian machine, or from a big-endian file, are the same pixels.
    little = np.ascontiguousarray(content, dtype=content.dtype.newbyteorder("<"))
    shape = ",".join(str(side) for side in content.shape)
    digest = blake3(f"{little.dtype.str}({shape})\n".encode())
    return digest.update(little.reshape(-1).view(np.uint8).data).digest()


def to_image(
    content: bytes | np.ndarray, *, max_pixels: int = MAX_PIXELS, range: str = "full"
) -> Image.Image:
    """Decode a payload to an upright RGB image.

    Parameters
    ----------
    content : bytes or ndarray
        What `payload` returned.
    max_pixels : int, default 100_000_000
        Largest width times height.
    range : str, default "full"
        What becomes black and white where there are more than 8 bits a channel, as `Preprocessing`
        has it.

    Returns
    -------
    PIL.Image.Image of mode RGB
        Where there are more than 8 bits a channel, its `info` says what `value_range.note_use`
        found: ``range_used`` and ``range_clipped``; `narrow_range` judges it.

    Raises
    ------
    BadImage
        If it is no whole image of a kind that can be read here.
    """
    if isinstance(content, bytes):
        return decode(content, max_pixels=max_pixels, range=range)
    return from_pixels(content, max_pixels=max_pixels, range=range)


def to_pixels(
    content: bytes | np.ndarray,
    *,
    max_pixels: int = MAX_PIXELS,
    range: str = "full",
    target: Target | None = None,
) -> Pixels:
    """Decode a payload to upright RGB pixels: the same values as `to_image`, the quickest way.

    Parameters
    ----------
    content, max_pixels, range
        As `to_image` has them.
    target : callable, optional
        What size an upright image of some size is resized to as a whole, both (width, height).
        Where it is given, JPEG files are decoded two, four or eight times smaller than they are, as
        long as twice that size remains; their values are others then. `preprocess.decoded` gives it
        as a recipe says.

    Raises
    ------
    BadImage
        If it is no whole image of a kind that can be read here.
    """
    if isinstance(content, bytes):
        return Pixels(*decode_pixels(content, max_pixels=max_pixels, range=range, target=target))
    image = from_pixels(content, max_pixels=max_pixels, range=range)
    return Pixels(np.asarray(image), image.info.get("range_used"))


def is_tensor(value: Any) -> bool:
    """Whether a value is a torch tensor, told without importing torch."""
    return any(
        cls.__module__ == "torch" and cls.__name__ == "Tensor" for cls in type(value).__mro__
    )


def tensor_pixels(tensor: Any) -> np.ndarray:
    """Turn a uint8 tensor (c, h, w) or (h, w) into an array with channels last.

    Raises
    ------
    BadImage
        If it is a float tensor: it may be normalised already, and then its pixels are lost. Or if
        it is sparse, quantised or of the meta device.
    """
    try:
        # Before NumPy sees it, which has no bfloat16.
        if tensor.is_floating_point():
            raise BadImage(
                f"a tensor of type {str(tensor.dtype).removeprefix('torch.')}: already normalised? "
                "Give PIL images or uint8"
            )
        values = tensor.detach().cpu().numpy()
    except (TypeError, RuntimeError) as error:  # NotImplementedError is a RuntimeError
        text = " ".join(str(error).split())[:200]
        raise BadImage(f"a tensor that is no plain array: {text}") from error
    if values.dtype != np.uint8:
        raise BadImage(
            f"a tensor of type {values.dtype}: already normalised? Give PIL images or uint8"
        )
    if values.ndim == 3 and values.shape[0] in (1, 3, 4):
        values = values.transpose(1, 2, 0)
    return np.ascontiguousarray(values)
