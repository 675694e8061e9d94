"""Networks exported to ONNX, once per user: made, kept under their content hash, found again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

from .. import usercache
from ..backbones.base import Backbone
from ..backbones.nodes import nodes_of
from ..backbones.proof import pictures, relative_error
from ..errors import CacheError, EngineError
from ..reporter import Reporter
from . import devices
from .onnx import output_names

# Part of an exported network's identity: raise it when `FeatureNetwork` or the export changes.
_GRAPH_VERSION = 3
_OPSET = 18
# Largest relative error ||a - b|| / ||b|| of an exported network's features.
_TOLERANCE = 1e-3


def identity(backbone: Backbone) -> dict[str, Any]:
    """What decides the exported graph. Resizing does not: it happens before the network."""
    p = backbone.preprocessing
    return {
        "graph_version": _GRAPH_VERSION,
        "opset": _OPSET,
        "backbone": backbone.entry.name,
        "weights_sha256": backbone.weights.sha256,
        "outputs": [output.to_recipe() for output in backbone.outputs],
        "crop": list(p.crop),
        "mean": list(p.mean),
        "std": list(p.std),
    }


def _note_path(backbone: Backbone) -> Path:
    return usercache.note(identity(backbone), "networks")


def find(backbone: Backbone) -> Path | None:
    """The exported network of a backbone, if it was made before and is whole.

    Returns
    -------
    pathlib.Path or None
        ``networks/<sha256 of the file>.onnx`` in the user's cache; the hash is checked here.
    """
    try:
        note = json.loads(usercache.read(_note_path(backbone)))
        path = usercache.folder("networks") / f"{note['onnx_sha256']}.onnx"
        status = path.stat()
        digest = _digest(path, status.st_size, status.st_mtime_ns, status.st_ino)
    except (OSError, ValueError, KeyError, TypeError, CacheError):
        return None
    return path if digest == note["onnx_sha256"] else None


@lru_cache(maxsize=32)
def _digest(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    """SHA-256 of a file, read once by this process: one run asks several times, and VGG16 has 500 MB."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def possible() -> bool:
    """Whether an exported network could be kept."""
    try:
        return os.access(usercache.folder("networks"), os.W_OK)
    except CacheError:
        return False


def find_or_export(backbone: Backbone, reporter: Reporter) -> Path:
    """The exported network of a backbone, made now if it is not there.

    Parameters
    ----------
    backbone : Backbone
    reporter : Reporter
        Told before an export begins, because it takes seconds.

    Returns
    -------
    pathlib.Path
        One file without external data: input ``images`` (n, h, w, 3) uint8, outputs ``features_0``,
        ``features_1``, ... (n, d) float32, n free, normalisation inside, nothing behind the last cut.

    Raises
    ------
    ExportError
        If the network cannot be exported, or the exported one gives other features.
    """
    path = find(backbone)
    if path is None:
        if backbone.entry.graph is not None:
            from ..backbones.graphs.graph import compose

            content = compose(
                backbone.entry.graph(),
                backbone.preprocessing,
                nodes_of(backbone),
                backbone.outputs,
            )
        else:
            reporter.note(f"exporting {backbone.entry.name} to ONNX, once for this user")
            content = _export(backbone, reporter)
        path = _publish(content, backbone)
    return path


class ExportError(EngineError):
    """A network that PyTorch cannot turn into ONNX, though it runs."""


def _export(backbone: Backbone, reporter: Reporter) -> bytes:
    import torch

    from .network import load

    network, feature_sizes = load(backbone, reporter)
    # Two images: an example of one would be taken for a fixed batch of one.
    example = torch.zeros((2, *backbone.preprocessing.crop, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself; the result is what counts
        file = Path(folder) / "network.onnx"
        # The exporter prints its steps, and stdout belongs to `--json`.
        try:
            with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
                torch.onnx.export(
                    network,
                    (example,),
                    file,
                    dynamo=True,
                    verbose=False,
                    external_data=False,
                    opset_version=_OPSET,
                    input_names=["images"],
                    output_names=output_names(len(feature_sizes)),
                    dynamic_shapes={"images": {0: torch.export.Dim("n", min=1)}},
                )
        except Exception as error:  # the exporter lets through whatever a network's code raises
            raise ExportError(
                f"{backbone.entry.name} cannot be exported to ONNX: {_first_line(error)}",
                where="--engine onnx",
                next="give --engine eager",
            ) from error
        _require_same(network, file, backbone)
        return file.read_bytes()


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _require_same(network: Any, file: Path, backbone: Backbone) -> None:
    """Raise an ExportError unless the exported network gives the features of the network itself.

    Tracing follows one path through a network's Python; where another batch would take another
    path, the exported one is wrong without any error.
    """
    import onnxruntime
    import torch

    images = pictures(3, backbone.preprocessing.crop)
    with torch.inference_mode():
        wanted = [each.numpy() for each in network(torch.from_numpy(images))]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = devices.cores()
    try:
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        found = session.run(output_names(len(wanted)), {"images": images})
    except Exception as error:  # ONNX Runtime's own types, which have no common base
        raise ExportError(
            f"{backbone.entry.name} exported to ONNX does not run: {_first_line(error)}",
            expected="a network that takes any number of images",
            where="--engine onnx",
            next="give --engine eager",
        ) from error
    for output, a, b in zip(backbone.outputs, found, wanted, strict=True):
        gap = float(relative_error(a, b).max()) if a.shape == b.shape else 1.0
        if not gap <= _TOLERANCE:
            raise ExportError(
                f"{backbone.entry.name} exported to ONNX gives other features at {output.id}: "
                f"{gap:.2g} of their length",
                expected=f"at most {_TOLERANCE:g}",
                where="--engine onnx",
                next="give --engine eager",
            )


def _publish(content: bytes, backbone: Backbone) -> Path:
    folder = usercache.folder("networks")
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest}.onnx"
    usercache.write(path, content)
    note = {"onnx_sha256": digest, **identity(backbone)}
    # The note last: a network is found through it, so it must never point to half a file.
    usercache.write(_note_path(backbone), json.dumps(note, indent=1).encode())
    return path
