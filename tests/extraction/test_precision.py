"""Faster precisions through the whole program: what is written down, kept, refused, and predicted."""

import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe import EngineError, RecipeError
from bottleneck_probe.engines import devices, gate, openvino, select
from PIL import Image

BF16 = "bf16" in devices.cpu_precisions() and openvino.installed_version() is not None


@pytest.fixture
def photos(tmp_path):
    """Parts of scikit-learn's two photographs, twelve of each."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    for name, image in zip(("china", "flower"), load_sample_images().images, strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            top, left = rng.integers(0, 120), rng.integers(0, 300)
            part = Image.fromarray(image[top : top + 300, left : left + 330])
            part.save(tmp_path / "photos" / name / f"{i:02}.png")
    return tmp_path / "photos"


def cosines(a, b):
    return gate.cosine(np.asarray(a.features), np.asarray(b.features))


def test_a_file_goes_on_in_its_own_precision(photos, tmp_path, monkeypatch):
    """PyTorch computes in bfloat16 on any processor: this needs no special one."""
    moved = [path.rename(tmp_path / path.name) for path in sorted((photos / "china").glob("0*"))]
    first = bp.extract(
        photos, output=tmp_path / "x.h5", precision="bf16", engine="eager", quiet=True
    )
    assert first.recipe["precision"] == "bf16"
    for path in moved:
        path.rename(photos / "china" / path.name)
    # Neither an option nor the processor's abilities change what a file is.
    second = bp.extract(photos, output=tmp_path / "x.h5", quiet=True)
    assert second.recipe["precision"] == "bf16"
    assert len(second) == 24
    assert second.environment["engine"] == "eager"
    plain = bp.extract(
        photos, output=tmp_path / "y.h5", precision="fp32", engine="eager", quiet=True
    )
    assert plain.fingerprint != second.fingerprint
    assert cosines(second, plain).min() > gate.MINIMUM
    assert not np.array_equal(np.asarray(second.features), np.asarray(plain.features))


def test_another_precision_never_mixes_in(photos, tmp_path):
    bp.extract(photos, output=tmp_path / "x.h5", precision="fp32", engine="eager", quiet=True)
    before = (tmp_path / "x.h5").read_bytes()
    with pytest.raises(RecipeError, match="precision") as caught:
        bp.extract(photos, output=tmp_path / "x.h5", precision="bf16", engine="eager", quiet=True)
    assert '"fp32" there, "bf16" here' in str(caught.value)
    assert (tmp_path / "x.h5").read_bytes() == before


def test_a_probe_predicts_in_the_precision_it_was_fitted_in(photos, tmp_path, monkeypatch):
    bp.extract(photos, output=tmp_path / "x.h5", precision="bf16", engine="eager", quiet=True)
    cache = bp.open(tmp_path / "x.h5")
    probe = bp.fit(cache, repeats=1)
    probe.save(tmp_path / "x.probe")
    asked = []
    real = select.choose
    monkeypatch.setattr(
        select, "choose", lambda b, **how: asked.append(b.precision) or real(b, **how)
    )
    guess = bp.load(tmp_path / "x.probe").predict(photos, engine="eager")
    assert set(asked) == {"bf16"}
    own = probe.predict_proba(np.asarray(cache.features))
    np.testing.assert_allclose(guess.probabilities, own, atol=1e-6)


def test_what_a_killed_run_left_says_the_precision(photos, tmp_path, monkeypatch):
    """There is no file yet, but finished work."""
    from bottleneck_probe.extraction import job

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            bp.extract(
                photos, output=tmp_path / "x.h5", precision="bf16", engine="eager", quiet=True
            )
    done = bp.extract(photos, output=tmp_path / "x.h5", quiet=True)
    assert done.recipe["precision"] == "bf16"
    assert not (tmp_path / "x.h5.parts").exists()


def test_a_layer_that_does_not_bear_the_precision_stays_out(photos, tmp_path, monkeypatch):
    how = {"output": tmp_path / "x.h5", "engine": "eager", "quiet": True}
    bp.extract(photos, precision="bf16", **how)
    before = (tmp_path / "x.h5").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(gate, "MINIMUM", 1.1)
        with pytest.raises(EngineError, match=r"blocks\.3:avg .* does not bear bf16"):
            bp.extract(photos, layer="blocks.3:avg", **how)
        assert (tmp_path / "x.h5").read_bytes() == before
        # Whoever states it has decided.
        both = bp.extract(photos, layer="blocks.3:avg", precision="bf16", **how)
        assert list(both.outputs) == ["penultimate:none", "blocks.3:avg"]
    monkeypatch.setattr(gate, "MINIMUM", 0.5)
    more = bp.extract(photos, layer="blocks.4:avg", **how)
    assert list(more.outputs)[-1] == "blocks.4:avg"


@pytest.mark.skipif(not BF16, reason="needs a processor with bfloat16, and OpenVINO")
def test_auto_runs_the_gate_once_and_keeps_its_verdict(
    photos, tmp_path, real_processor, monkeypatch, capsys
):
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path / "cache"))
    fast = bp.extract(photos, output=tmp_path / "x.h5")
    said = capsys.readouterr().err
    assert fast.recipe["precision"] == "bf16"
    assert fast.environment["engine"] == "openvino"
    assert "precision bf16 (the processor has it; cosine to fp32" in said
    (note,) = (tmp_path / "cache" / "networks").glob("*.gate.json")
    verdict = json.loads(note.read_text())["verdict"]
    plain = bp.extract(photos, output=tmp_path / "y.h5", precision="fp32", quiet=True)
    assert verdict["images"] == gate.IMAGES
    assert cosines(fast, plain).min() >= gate.MINIMUM
    monkeypatch.setattr(gate, "measure", lambda *args: pytest.fail("measured twice"))
    again = bp.extract(photos, output=tmp_path / "z.h5", quiet=True)
    np.testing.assert_array_equal(np.asarray(again.features), np.asarray(fast.features))


@pytest.mark.skipif(not BF16, reason="needs a processor with bfloat16, and OpenVINO")
def test_bfloat16_changes_the_accuracy_by_one_image_at_most(test_data, tmp_path, real_processor):
    images = test_data / "ants-bees"
    files = {
        precision: bp.extract(
            images, output=tmp_path / f"{precision}.h5", precision=precision, quiet=True
        )
        for precision in ("fp32", "bf16")
    }
    right = {}
    for precision, cache in files.items():
        probe = bp.fit(cache)
        right[precision] = probe.metrics["accuracy"]["value"] * probe.n_test
        # Also when it was fitted on the one and is asked about the other.
        other = files["fp32" if precision == "bf16" else "bf16"]
        val = np.array(other.splits) == "val"
        guessed = probe.predict_proba(np.asarray(other.features)[val]).argmax(axis=1)
        right[f"{precision} on the other"] = int((guessed == other.y[val]).sum())
    assert max(right.values()) - min(right.values()) <= 1, right
    assert min(right.values()) >= 0.93 * 153
