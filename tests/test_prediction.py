"""Predictions: one row for each input, in the order of the input, whatever becomes of it."""

import csv
import io
import json
import shutil
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
import pandas as pd
import pytest
from bottleneck_probe.extraction.api import find_images
from bottleneck_probe.reporter import Silent


@pytest.fixture
def photos(stub, tmp_path):
    """Ants are dark and bees bright, so that the mean colour tells them apart."""

    def make(n: int, folder: str = "photos", first: int = 0) -> Path:
        root = tmp_path / folder
        for i in range(first, first + n):
            label = ("ants", "bees")[i % 2]
            stub.paint(root / label / f"{i:04d}.png", 1000 + i if i % 2 else 60_000 + i)
        return root

    return make


@pytest.fixture
def probe(calls, photos, tmp_path) -> bp.Probe:
    cache = bp.extract(photos(40), output=tmp_path / "x.h5", backbone="stub", quiet=True)
    calls.forwards = 0
    return bp.fit(cache, folds=3, repeats=1, quiet=True)


def expected_label(path: str) -> str:
    return path.split("/")[-2] if "/" in path else ""


def test_every_input_has_its_row_in_the_order_of_the_input(stub, probe, tmp_path):
    # A table in an order of its own; the true label stands in the folder's name.
    folder = tmp_path / "new"
    names = []
    for place, i in enumerate([7, 2, 9, 0, 5, 4]):
        label = ("ants", "bees")[i % 2]
        name = f"{label}/z{9 - place} {i}.png"
        stub.paint(folder / name, 2000 + i if i % 2 else 61_000 + i)
        names.append(name)
    (folder / "broken.png").write_bytes(b"<html>no image</html>")
    names[3:3] = ["broken.png", "missing.png"]
    table = folder / "list.csv"
    table.write_text("path\n" + "\n".join(names) + "\n")
    got = probe.predict(table)
    assert got.paths == names
    assert (len(got), got.predicted, got.quarantined) == (8, 6, 2)
    for path, label, reason, row in zip(
        got.paths, got.labels, got.reasons, got.probabilities, strict=True
    ):
        if path in ("broken.png", "missing.png"):
            assert label is None
            assert reason
            assert np.isnan(row).all()
        else:
            assert label == expected_label(path)
            assert reason is None
            assert row.sum() == pytest.approx(1)
            assert got.classes[row.argmax()] == label
    assert "no such file" in got.reasons[4]


def test_a_list_of_paths_is_answered_in_its_order(stub, probe, tmp_path):
    files = [
        stub.paint(tmp_path / "n" / f"{'ab'[i % 2]}{99 - i}.png", 1500 + i if i % 2 else 60_500 + i)
        for i in range(8)
    ]
    got = probe.predict(files)
    assert got.paths == [path.name for path in files]
    assert got.labels == ["ants", "bees"] * 4


def test_images_from_memory_are_answered_in_their_order(stub, probe):
    numbers = [60_001, 1_003, 60_005, 1_007, 1_009] * 3
    arrays = [np.full((9, 9, 3), stub.colour_of(n), np.uint8) for n in numbers]
    got = probe.predict(arrays)
    assert got.labels == ["bees" if n < 30_000 else "ants" for n in numbers]


def test_known_features_are_not_computed_again(stub, calls, probe, photos, tmp_path):
    root = photos(30, "new", first=100)
    known = bp.extract(root, output=tmp_path / "new.h5", backbone="stub", quiet=True)
    plain = probe.predict(root)
    calls.forwards = calls.started = 0
    for features in (known, tmp_path / "new.h5", str(tmp_path / "new.h5")):
        again = probe.predict(root, features=features)
        assert again.paths == plain.paths
        assert again.labels == plain.labels
        assert again.probabilities.tobytes() == plain.probabilities.tobytes()
    assert calls.forwards == calls.started == 0
    stub.paint(root / "ants" / "added.png", 64_444)
    assert len(probe.predict(root, features=known)) == 31
    assert calls.forwards == 1


def test_a_feature_file_is_taken_for_its_images(calls, probe, photos, tmp_path):
    root = photos(12, "new", first=100)
    (root / "ants" / "torn.png").write_bytes(b"")
    cache = bp.extract(root, output=tmp_path / "new.h5", backbone="stub", quiet=True)
    shutil.rmtree(root)
    calls.forwards = 0
    for given in (cache, tmp_path / "new.h5", [str(tmp_path / "new.h5")]):
        got = probe.predict(given)
        assert got.paths == [*cache.paths, "ants/torn.png"]
        assert got.labels == [*cache.labels, None]
        assert got.quarantined == 1
    assert calls.forwards == 0


def test_features_of_another_recipe_are_refused_field_by_field(probe, photos, tmp_path):
    root = photos(6, "new", first=100)
    other = bp.extract(root, output=tmp_path / "y.h5", backbone="stub", resize=9, quiet=True)
    for attempt in (
        lambda: probe.predict(other),
        lambda: probe.predict(tmp_path / "y.h5"),
        lambda: probe.predict(root, features=other),
        lambda: probe.score(other),
    ):
        with pytest.raises(bp.RecipeError) as caught:
            attempt()
        assert "preprocessing.resize" in str(caught.value)
        assert "mean" not in str(caught.value)


def test_a_probe_of_arrays_takes_no_images(photos, tmp_path, calls):
    X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    own = bp.fit(bp.Features.from_arrays(X, ["a", "b"] * 20), folds=2, repeats=1, quiet=True)
    with pytest.raises(bp.RecipeError, match="arrays"):
        own.predict(photos(2, "new"))
    assert len(own.predict(bp.Features.from_arrays(X[:3] + 1))) == 3


def test_all_ways_out_say_the_same(stub, probe, photos, tmp_path):
    root = photos(6, "new", first=100)
    (root / "ants" / 'torn, "so" said.png').write_bytes(b"")
    got = probe.predict(root)
    columns = ["path", "status", "label", "probability", "p_ants", "p_bees", "reason"]
    assert got.columns() == columns
    rows = list(csv.reader(io.StringIO(got.to_csv())))
    assert rows[0] == columns
    lines = [json.loads(line) for line in got.to(tmp_path / "x.jsonl").read_text().splitlines()]
    parquet = pd.read_parquet(got.to(tmp_path / "x.parquet"))
    assert got.to(tmp_path / "x.csv").read_text() == got.to_csv()
    frame = got.to_pandas()
    assert list(frame.columns) == list(parquet.columns) == columns
    assert len(rows) - 1 == len(lines) == len(parquet) == len(frame) == len(got) == 7
    for i, path in enumerate(got.paths):
        good = got.reasons[i] is None
        wanted = {
            "path": path,
            "status": "ok" if good else "quarantined",
            "label": got.labels[i],
            "probability": float(got.probabilities[i].max()) if good else None,
            "p_ants": float(got.probabilities[i][0]) if good else None,
            "p_bees": float(got.probabilities[i][1]) if good else None,
            "reason": got.reasons[i],
        }
        assert lines[i] == wanted
        from_csv = dict(zip(columns, rows[i + 1], strict=True))
        for name, value in wanted.items():
            table_values = (frame[name][i], parquet[name][i])
            if value is None:
                assert from_csv[name] == ""
                assert all(pd.isna(v) for v in table_values)
            elif isinstance(value, float):
                assert float(from_csv[name]) == value
                assert all(v == value for v in table_values)
            else:
                assert from_csv[name] == value
                assert all(v == value for v in table_values)
    assert sum(row["status"] == "quarantined" for row in lines) == 1
    with pytest.raises(bp.InputError, match=r"\.csv, \.jsonl or \.parquet"):
        got.to(tmp_path / "x.xlsx")
    assert "torn, &quot;so&quot; said.png" in got._repr_html_()


def test_no_cell_of_the_csv_is_a_formula():
    evil = '=HYPERLINK("http://x")'
    got = bp.Predictions(
        paths=[evil + ".png", "-2+3.png", "@x.png", "+x.png", "a.png"],
        labels=["=1+1", "+c", "plain", None, "-x"],
        probabilities=np.array([[1.0, 0], [1, 0], [1, 0], [np.nan, np.nan], [0, 1.0]]),
        classes=["=1+1", "plain"],
        reasons=[None, None, None, "=cmd|' /C calc'!A0", None],
    )
    for row in csv.reader(io.StringIO(got.to_csv())):
        for cell in row:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
    # A table for programs says what is meant, unchanged.
    assert next(iter(got.rows()))[0] == evil + ".png"
    first = list(csv.reader(io.StringIO(got.to_csv())))[1]
    assert first[0] == f"./{evil}.png"
    assert first[2] == "'=1+1"


def test_score_is_that_of_the_labels_found(stub, calls, probe, photos):
    root = photos(20, "new", first=200)
    # Three ants in the bees' folder: known mistakes.
    for i in range(3):
        stub.paint(root / "bees" / f"really an ant {i}.png", 60_900 + i)
    (root / "ants" / "torn.png").write_bytes(b"")
    (root / "read me.txt").write_text("no image")
    found = probe.score(root)
    assert (found["n"], found["seen"], found["predicted"]) == (23, 24, 23)
    assert (found["quarantined"], found["ignored"]) == (1, 1)
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(20 / 23)
    assert np.asarray(found["confusion"]).tolist() == [[10, 0], [3, 10]]
    baseline = found["baseline"]["accuracy"]["value"]
    assert probe.majority == "ants"  # of the training images; the bees lead here
    assert baseline == pytest.approx(10 / 23)


def test_score_leaves_out_what_the_probe_was_trained_on(calls, probe, photos, tmp_path):
    photos(10, "photos", first=300)
    # The folder now holds the 40 images the probe knows and ten that it does not.
    found = probe.score(tmp_path / "photos")
    assert found["n"] == 10
    assert any("40 images" in note for note in found["notes"])
    with pytest.raises(bp.FitError, match="trained on all 40"):
        probe.score(tmp_path / "x.h5")


def test_score_names_classes_the_probe_does_not_know(stub, probe, photos, tmp_path):
    root = photos(4, "new", first=200)
    stub.paint(root / "wasps" / "w.png", 30_000)
    with pytest.raises(bp.FitError, match="wasps") as caught:
        probe.score(root)
    assert "ants, bees" in caught.value.expected
    flat = tmp_path / "flat"
    stub.paint(flat / "a.png", 1)
    stub.paint(flat / "b.png", 2)
    with pytest.raises(bp.FitError, match="none of the images has a label"):
        probe.score(flat)


def test_weights_that_are_not_here_are_named_by_their_hash(calls, probe, photos, monkeypatch):
    recipe = {**probe.recipe, "weights_sha256": "ab" * 32}
    monkeypatch.setattr(probe, "recipe", recipe)
    with pytest.raises(bp.WeightsError, match="abababababab") as caught:
        probe.predict(photos(2, "new"))
    assert "--weights" in caught.value.next


@pytest.fixture(scope="module")
def ants_bees(test_data, tmp_path_factory) -> bp.Features:
    """Features of all 398 photographs, by the exported network."""
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOTTLENECK_CACHE_DIR", str(base / "user-cache"))
        return bp.extract(
            test_data / "ants-bees",
            output=base / "ants-bees-onnx.h5",
            engine="onnx",
            device="cpu",
            quiet=True,
        )


def test_ants_and_bees_are_told_apart(ants_bees, test_data, tmp_path):
    assert (ants_bees.splits == "val").sum() == 153
    probe = bp.fit(ants_bees, head="logistic", output=tmp_path / "ab.probe", quiet=True)
    accuracy = probe.metrics["accuracy"]
    assert accuracy["value"] >= 0.93
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert probe.n_test == 153
    kept = bp.load(tmp_path / "ab.probe")
    reporter = Silent()
    got = kept.predict(test_data / "ants-bees" / "val", features=ants_bees, reporter=reporter)
    table = list(csv.DictReader(io.StringIO(got.to_csv())))
    assert len(table) == 153
    assert got.ignored == 0
    hits = [row["label"] == row["path"].split("/")[0] for row in table]
    # The kept probe is the one that was scored.
    assert np.mean(hits) == pytest.approx(accuracy["value"])
    found = find_images(test_data / "ants-bees" / "val")
    place = {path: i for i, path in enumerate(found.order)}
    assert [row["path"] for row in table] == [
        found.samples[place[i]].path for i in range(len(found.samples))
    ]
    scored = kept.score(test_data / "ants-bees" / "val", features=ants_bees)
    assert scored["n"] == 153
    assert scored["metrics"]["accuracy"]["value"] == pytest.approx(accuracy["value"])


def test_an_image_given_twice_is_answered_twice(stub, probe, tmp_path):
    """`zip(paths, guesses.labels)` was shifted by one after the first repeat."""
    files = [stub.paint(tmp_path / "new" / f"{i}.png", 40 + i) for i in range(2)]
    given = [str(tmp_path / "new" / f"{i}.png") for i in (1, 0, 1)]
    assert files
    found = probe.predict(given)
    assert found.paths == ["1.png", "0.png", "1.png"]
    np.testing.assert_array_equal(found.probabilities[0], found.probabilities[2])


def test_several_feature_files_are_predicted_together(probe, tmp_path):
    n = probe.n_features
    for name, seed in (("a.h5", 1), ("b", 2)):
        X = np.random.default_rng(seed).random((3, n))
        own = bp.Features.from_arrays(X, ids=[f"{name}{i}" for i in range(3)])
        own.save(tmp_path / name)
    with pytest.raises(bp.RecipeError):
        probe.predict([tmp_path / "a.h5", tmp_path / "b"])
    with pytest.raises(bp.InputError, match="given together"):
        probe.predict([tmp_path / "a.h5", tmp_path])


@pytest.mark.parametrize("name", ["preds.txt", "preds", "nowhere.xlsx"])
def test_a_table_that_cannot_be_written_is_told_before_the_work(name, tmp_path):
    from bottleneck_probe.prediction import require_writable

    with pytest.raises(bp.InputError, match="suffix"):
        require_writable(tmp_path / name)


def test_fit_and_score_have_one_baseline(tmp_path):
    """The majority class is that of the training images in both, also where another one leads here."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), np.array(["a"] * 40 + ["b"] * 20)
    splits = np.where(np.arange(60) % 2, "test", "train")
    test = splits == "test"
    y[test] = np.where(np.arange(test.sum()) < 5, "a", "b")
    X[:, 0] += 3 * (y == "a")
    probe = bp.fit(bp.Features.from_arrays(X, y, splits=splits), quiet=True)
    assert probe.majority == "a"
    found = probe.score(bp.Features.from_arrays(X[test], y[test]))
    assert found["metrics"]["accuracy"] == probe.metrics["accuracy"]
    assert found["baseline"]["accuracy"] == probe.baseline["accuracy"]
    assert found["baseline"]["accuracy"]["value"] == pytest.approx(5 / 30)


def test_copies_of_an_image_do_not_narrow_the_interval_of_score(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), np.array(["a", "b"] * 30)
    probe = bp.fit(bp.Features.from_arrays(X, y), quiet=True)
    new, names = rng.normal(size=(16, 4)), np.array(["a", "b"] * 8)
    once = probe.score(bp.Features.from_arrays(new, names))
    tenfold = probe.score(bp.Features.from_arrays(np.repeat(new, 10, 0), np.repeat(names, 10)))
    assert tenfold["metrics"]["accuracy"] == pytest.approx(once["metrics"]["accuracy"])
    assert any("copies" in note for note in tenfold["notes"])


def test_tiles_are_answered_image_by_image(calls, photos, tmp_path):
    tiled = {"backbone": "stub", "framing": "tiles:1x2", "quiet": True}
    cache = bp.extract(photos(40), output=tmp_path / "t.h5", **tiled)
    assert cache.features.shape == (80, 4)
    probe = bp.fit(cache, folds=3, repeats=1, quiet=True)
    new = photos(6, folder="new", first=100)
    guess = probe.predict(new)
    assert len(guess) == guess.predicted == 6
    assert guess.labels == [expected_label(path) for path in guess.paths]
    rows = bp.extract(new, output=tmp_path / "n.h5", **tiled)
    each = probe.predict_proba(np.asarray(rows.features)).reshape(6, 2, 2).mean(axis=1)
    np.testing.assert_allclose(guess.probabilities, each)
    assert probe.predict(rows).paths == guess.paths
    from bottleneck_probe.prediction import score

    found = score(probe, new)
    assert (found["seen"], found["predicted"]) == (6, 6)
    assert found["metrics"]["accuracy"]["value"] == 1


def test_a_probe_finds_its_layer_among_those_of_a_file(calls, photos, tmp_path):
    root = photos(40)
    cache = bp.extract(
        root, output=tmp_path / "x.h5", backbone="stub", layer=["penultimate", "double"], quiet=True
    )
    probe = bp.fit(f"{tmp_path / 'x.h5'}::double", folds=3, repeats=1, quiet=True)
    assert [each["node"] for each in probe.recipe["outputs"]] == ["double"]
    alone = probe.predict(cache.output("double"))
    np.testing.assert_array_equal(probe.predict(cache).probabilities, alone.probabilities)
    calls.cuts = []
    new = probe.predict(photos(4, folder="new", first=200))
    assert new.predicted == 4
    assert calls.cuts == [["double:none"]]
    # The same probe, whatever else lies in the file it was fitted on.
    lone = bp.extract(root, output=tmp_path / "y.h5", backbone="stub", layer="double", quiet=True)
    bp.fit(lone, folds=3, repeats=1, quiet=True).save(tmp_path / "a.probe")
    probe.save(tmp_path / "b.probe")
    assert (tmp_path / "a.probe").read_bytes() == (tmp_path / "b.probe").read_bytes()
    penultimate = bp.fit(cache, folds=3, repeats=1, quiet=True)
    with pytest.raises(bp.RecipeError):
        penultimate.predict(lone)
