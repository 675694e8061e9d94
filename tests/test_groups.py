"""What ``--groups`` means, from a feature set to a probe and to a comparison."""

import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cli.main import bottleneck
from bottleneck_probe.errors import FitError
from bottleneck_probe.fitting import run
from bottleneck_probe.groups import resolve_groups
from bottleneck_probe.reporter import Silent
from click.testing import CliRunner


def features(n=40, d=6, *, meta=None, paths=None, seed=0, phash=False, backbone="net"):
    """Two classes in turn; four plates."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = rng.normal(size=(n, d)).astype(np.float32)
    X[:, 0] += 2 * y
    labels = ["ants" if value == 0 else "bees" for value in y]
    ids = paths or [f"{labels[i]}/plate{i // 2 % 4}/{i:03d}.jpg" for i in range(n)]
    made = bp.Features.from_arrays(X, labels, ids, meta=meta, recipe={"backbone": backbone})
    if phash:
        made.rows.phash = rng.integers(1, 2**63, n).astype(np.uint64)
    return made


PLATES = [f"plate{i // 2 % 4}" for i in range(40)]


@pytest.mark.parametrize(
    "spec",
    ["plate", "folder", r"plate\d", r"(\w+)/\d+\.jpg", PLATES, np.array(PLATES)],
    ids=["column", "folder", "match", "group", "list", "array"],
)
def test_each_way_to_name_the_same_groups(spec):
    found = resolve_groups(features(meta={"plate": PLATES, "folder": PLATES}), spec)
    assert found == PLATES


def test_folder_is_the_images_own_where_no_sub_folder_is_known():
    found = resolve_groups(features(), "folder")
    assert found[:3] == ["ants/plate0", "bees/plate0", "ants/plate1"]
    flat = features(paths=[f"{i:03d}.jpg" for i in range(40)])
    with pytest.raises(FitError, match="fewer than 2 classes have images of 2 groups"):
        resolve_groups(flat, "folder")


def test_a_column_of_numbers_names_groups():
    assert resolve_groups(features(meta={"patient": [i % 5 for i in range(40)]}), "patient")[
        :6
    ] == [*"012340"]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("plat", ["there is no column 'plat'", "'plate'", "folder", "ants/plate0/000.jpg"]),
        ("nothing", ["matches no path"]),
        ("(", ["no regular expression", "missing )"]),
        (r"00\d\.jpg", ["30 of 40 labelled images have no group", "ants/plate1/010.jpg"]),
        ("gaps", ["20 of 40 labelled images have no group", "fill the column"]),
        ("ants|bees", ["fewer than 2 classes have images of 2 groups", "ants 1, bees 1"]),
        (["a", "b"], ["2 groups for 40 rows"]),
        ([*PLATES[:39], None], ["1 of 40 labelled images have no group"]),
    ],
    ids=str,
)
def test_a_group_for_each_labelled_image_or_an_error_that_says_which(spec, told):
    paths = [f"{'ab'[i % 2]}nts/plate{i // 2 % 4}/{i:03d}.jpg" for i in range(40)]
    paths = [p.replace("bnts", "bees").replace("ants/", "ants/") for p in paths]
    if spec == "plat":
        paths = [p.replace("plate", "p") for p in paths]
    gaps = ["", "x"] * 20
    given = features(meta={"plate": PLATES, "gaps": gaps}, paths=paths)
    with pytest.raises(FitError) as raised:
        resolve_groups(given, spec)
    text = str(raised.value).replace("/p0/", "/plate0/")
    assert all(part in text for part in told), text


def test_an_unlabelled_image_needs_no_group():
    X = np.arange(10.0)[:, None]
    given = bp.Features.from_arrays(
        X, [*"abab", None, *"babab"], [f"{i}{i}.jpg" for i in range(10)]
    )
    assert resolve_groups(given, "[0-35-9]")[4] == ""


def test_fit_keeps_groups_on_one_side_and_says_how_many():
    given = features(80, meta={"plate": [f"p{i // 2 % 8}" for i in range(80)]})
    probe = bp.fit(given, groups="plate", repeats=1, quiet=True)
    assert probe.extra["groups"]["groups"] == 8
    assert "unseen" not in probe.extra
    held = bp.fit(given, groups="plate", holdout=0.4, quiet=True)
    plates = given.meta["plate"]
    tested = plates[np.isin(given.paths, held.oof.paths)]
    assert 0 < len(tested) < 80
    assert len(tested) == sum((plates == each).sum() for each in set(tested))


def test_fit_says_what_a_column_would_change():
    rng = np.random.default_rng(0)
    plate = rng.integers(0, 12, 240)
    y = (plate % 2 + (rng.random(240) < 0.1)) % 2
    X = rng.normal(size=(240, 20)) + 3 * rng.normal(size=(12, 20))[plate]
    meta = {"plate": [f"p{p}" for p in plate], "file": [str(i) for i in range(240)]}
    given = bp.Features.from_arrays(X, ["ab"[i] for i in y], meta=meta)
    probe = bp.fit(given, quiet=True, repeats=1)
    (found,) = probe.extra["unseen"]
    assert found["column"] == "plate"
    assert found["random"] - found["unseen"] > 0.1
    assert f"{found['sentence']}; --groups plate scores it so" in probe.notes


def with_copies(seed=0):
    """Random labels, each picture three times: as `features`, keys differ, hashes nearly not."""
    rng = np.random.default_rng(seed)
    X = np.repeat(rng.normal(size=(40, 30)), 3, axis=0) + 0.02 * rng.normal(size=(120, 30))
    labels = np.repeat(rng.choice(["a", "b"], 40), 3)
    made = bp.Features.from_arrays(X, labels.tolist())
    made.rows.phash = np.repeat(rng.integers(1, 2**63, 40).astype(np.uint64), 3)
    made.rows.phash[::3] ^= np.uint64(0b101)
    return made


def test_near_copies_are_named_and_no_name_goes_into_the_probe(tmp_path):
    heard = []
    ears = Silent()
    ears.note = heard.append
    probe, _ = run(with_copies(), reporter=ears, repeats=1, output=tmp_path / "a.probe")
    assert probe.extra["groups"]["near_copies"] == 80
    (told,) = (note for note in heard if note.startswith("near copies: "))
    sets = told.removeprefix("near copies: ").partition(" and ")[0].split(", ")
    assert told.endswith(" and 15 more")
    assert all(
        {int(path) // 3 for path in each.split(" = ")} == {int(each[:3]) // 3} for each in sets
    )
    assert probe.metrics["accuracy"]["value"] < 0.75
    assert b"near_copy_sets" not in (tmp_path / "a.probe").read_bytes()


def test_without_hashes_it_is_said_that_nobody_looked():
    probe = bp.fit(features(), repeats=1, quiet=True)
    assert probe.extra["groups"]["near_copies"] is None
    assert any("near copies were not looked for" in note for note in probe.notes)
    assert not any(
        "near copies" in note for note in bp.fit(features(phash=True), repeats=1, quiet=True).notes
    )


def test_compare_deals_near_copies_and_groups_to_the_same_folds_everywhere():
    """What one set's features call copies is one image in all sets, in the folds of `fit`."""
    one = with_copies()
    rng = np.random.default_rng(1)
    other = bp.Features.from_arrays(
        rng.normal(size=(120, 5)), one.labels.tolist(), recipe={"backbone": "other"}
    )
    other.rows.keys, other.rows.phash = one.keys, one.phash
    found = bp.compare([one, other], repeats=1, quiet=True)
    alone = bp.fit(one, repeats=1, quiet=True)
    assert found.sets[0].metrics["accuracy"] == alone.metrics["accuracy"]
    assert any("near copies" in note for note in found.notes)
    groups = [f"g{i // 12}" for i in range(120)]
    grouped = bp.compare([one, other], groups=groups, repeats=1, quiet=True)
    single = bp.fit(one, groups=groups, repeats=1, quiet=True)
    assert grouped.sets[0].metrics["accuracy"] == single.metrics["accuracy"]


def test_the_command_takes_groups(tmp_path):
    file = features(80, meta={"plate": [f"p{i // 2 % 8}" for i in range(80)]}).save(
        tmp_path / "a.h5"
    )
    done = CliRunner().invoke(bottleneck, ["fit", str(file), "--groups", "plate", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["groups"]["groups"] == 8
    wrong = CliRunner().invoke(
        bottleneck, ["fit", str(file), "--groups", "plat", "--json", "--force"]
    )
    assert wrong.exit_code == 1
