"""Networks exported to ONNX, once per user: made, kept under their content hash, found again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

from .. import usercache
from ..backbones.base import Backbone
from ..errors import CacheError
from ..reporter import Reporter

# Part of an exported network's identity: raise it when `FeatureNetwork` or the export changes.
_GRAPH_VERSION = 1
_OPSET = 18


def _identity(backbone: Backbone) -> dict[str, Any]:
    """What decides the exported graph. Resizing does not: it happens before the network."""
    p = backbone.preprocessing
    return {
        "graph_version": _GRAPH_VERSION,
        "opset": _OPSET,
        "backbone": backbone.entry.name,
        "weights_sha256": backbone.weights.sha256,
        "output": dict(backbone.output),
        "crop": list(p.crop),
        "mean": list(p.mean),
        "std": list(p.std),
    }


def _note_path(backbone: Backbone) -> Path:
    identity = json.dumps(_identity(backbone), sort_keys=True).encode()
    return usercache.folder("networks") / f"{hashlib.sha256(identity).hexdigest()[:32]}.json"


def find(backbone: Backbone) -> Path | None:
    """The exported network of a backbone, if it was made before and is whole.

    Returns
    -------
    pathlib.Path or None
        ``networks/<sha256 of the file>.onnx`` in the user's cache; the hash is checked here.
    """
    try:
        note = json.loads(_note_path(backbone).read_text("utf-8"))
        path = usercache.folder("networks") / f"{note['onnx_sha256']}.onnx"
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError, CacheError):
        return None
    return path if digest == note["onnx_sha256"] else None


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
        One file without external data: input ``images`` (n, h, w, 3) uint8, output ``features``
        (n, d) float32, n free, normalisation inside, no classifier.
    """
    path = find(backbone)
    if path is None:
        reporter.note(f"exporting {backbone.entry.name} to ONNX, once for this user")
        path = _publish(_export(backbone), backbone)
    return path


def _export(backbone: Backbone) -> bytes:
    import torch

    from .network import load

    network = load(backbone)
    # Two images: an example of one would be taken for a fixed batch of one.
    example = torch.zeros((2, *backbone.preprocessing.crop, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself; the result is what counts
        file = Path(folder) / "network.onnx"
        # The exporter prints its steps, and stdout belongs to `--json`.
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(
                network,
                (example,),
                file,
                dynamo=True,
                verbose=False,
                external_data=False,
                opset_version=_OPSET,
                input_names=["images"],
                output_names=["features"],
                dynamic_shapes={"images": {0: torch.export.Dim("n", min=1)}},
            )
        return file.read_bytes()


def _publish(content: bytes, backbone: Backbone) -> Path:
    folder = usercache.folder("networks")
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest}.onnx"
    usercache.write(path, content)
    note = {"onnx_sha256": digest, **_identity(backbone)}
    # The note last: a network is found through it, so it must never point to half a file.
    usercache.write(_note_path(backbone), json.dumps(note, indent=1).encode())
    return path
