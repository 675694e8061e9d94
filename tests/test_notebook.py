"""The notebook runs from a folder of images to its figures, and is stored without a trace of a run."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"

# Jupyter's client warns about event loops and unencrypted ports, as its version and the system have it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:zmq"),
    pytest.mark.filterwarnings("ignore:.*(event loop|unclosed|encryption):"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def stored() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes told apart by colour, four of them with names that need escaping."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "50 % photos"
    for channel, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 120, (48, 64, 3), np.uint8)
            pixels[..., channel] += 100
            stem = f"{i:02d} 100%" if i < 4 else f"{i:02d}"
            Image.fromarray(pixels).save(folder / name / f"{stem}.png")
    return folder


def _run(notebook: nbformat.NotebookNode, folder: Path) -> list[dict]:
    """Every output of an executed copy."""
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_it_runs_on_a_folder_of_photographs(stored, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("BOTTLENECK_NOTEBOOK_IMAGES", str(photos))
    monkeypatch.setenv(
        "TMPDIR", str(tmp_path)
    )  # the kernel's temporary folders are pytest's to remove
    before = sorted(photos.rglob("*"))
    outputs = _run(stored, tmp_path)
    shown = {cell.id for cell in stored.cells for o in cell.get("outputs", []) if "data" in o}
    assert {"look", "score", "confusion", "uncertain", "predict"} <= shown
    figures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(figures) == 4
    assert all(len(figure["data"]["image/png"]) > 5000 for figure in figures)
    assert not [o for o in outputs if o.output_type == "error"]
    assert sorted(photos.rglob("*")) == before


def test_it_runs_as_it_stands_on_the_textile_photographs(stored, tmp_path, monkeypatch):
    pytest.importorskip("conformal_clip_data", reason="the extra `demo` is not installed")
    monkeypatch.delenv("BOTTLENECK_NOTEBOOK_IMAGES", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for cell in stored.cells:
        if cell.id == "parameters":  # fewer, to be done in seconds
            assert "PER_CLASS = 60" in cell.source
            cell.source = cell.source.replace("PER_CLASS = 60", "PER_CLASS = 8")
    outputs = _run(stored, tmp_path)
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 4


def test_it_is_stored_without_outputs_paths_or_changing_metadata(stored):
    for cell in stored.cells:
        assert not cell.get("outputs"), cell.id
        assert cell.get("execution_count") is None, cell.id
        assert cell.metadata == {}, cell.id
        # An absolute path, on any system, belongs to the machine of whoever wrote it.
        assert not re.search(r"[\"'](/|[A-Za-z]:[\\/]|~)", cell.source), cell.id
    assert set(stored.metadata) == {"kernelspec", "language_info"}
    assert set(stored.metadata.language_info) == {"name"}


def test_it_uses_the_public_interface_only(stored):
    code = "\n".join(cell.source for cell in stored.cells if cell.cell_type == "code")
    assert re.findall(r"bottleneck_probe.*", code) == ["bottleneck_probe as bp"]
    assert not re.findall(r"\bbp\._|\bbp\.\w+\._", code)
