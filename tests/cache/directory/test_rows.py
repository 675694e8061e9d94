"""Columns of many shards as one: targets, views, columns that some lack, shards of another kind."""

import pickle
from dataclasses import replace

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache import directory
from bottleneck_probe.cache.directory import building
from bottleneck_probe.cache.directory.manifest import encode
from bottleneck_probe.cache.storage import LocalStorage
from common import flip

N, D = 10, 3
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
IDS = [f"{i:03d}" for i in range(N)]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(building, "SHARD_ROWS", 4)


@pytest.fixture
def update(tmp_path):
    """Brings a directory to the rows of some features, as a run does; reads it again."""
    storage = LocalStorage(tmp_path / "many")

    def update_(own, index=None, refresh=False):
        existing = directory.open_directory(storage) if storage.list() else None
        arrays = [own.features, *own.layers.values()]
        with storage.writing():
            made = directory.write_directory(
                storage,
                own.header,
                own.rows,
                arrays,
                index=index,
                existing=existing,
                refresh=refresh,
            )
        found = bp.open(tmp_path / "many")
        for each in (made, found):
            np.testing.assert_array_equal(each.features[:], own.features)
            np.testing.assert_array_equal(each.keys, own.keys)
            np.testing.assert_array_equal(each.views, own.views)
            assert list(each.paths) == list(own.paths)
            assert list(each.labels) == list(own.labels)
            assert (each.task, each.classes) == (own.task, own.classes)
            assert list(each.meta) == list(own.meta)
            for name, column in own.meta.items():
                np.testing.assert_array_equal(each.meta[name], column)
        return found

    return update_


def names(features):
    return [shard.name for shard in features.features.directory.manifest.shards]


TARGETS = np.array([[i % 2, 1 - i % 2] for i in range(N)], float)


def labelled(values=TARGETS, classes=("ant", "bee"), **options):
    return bp.Features.from_arrays(X, ids=IDS, targets=values, classes=classes, **options)


def test_targets_are_read_back_and_rows_that_have_them_stay(update):
    """One that is unknown is equal to itself."""
    values = TARGETS.copy()
    values[3] = np.nan
    first = update(labelled(values))
    np.testing.assert_array_equal(first.targets, values.astype(np.float32))
    again = update(labelled(values))
    assert names(again) == names(first)
    values[9] = 1
    changed = update(labelled(values))
    np.testing.assert_array_equal(changed.targets, values.astype(np.float32))
    assert names(changed)[:3] == names(first)
    assert [shard.alive for shard in changed.features.directory.manifest.shards] == [4, 4, 1, 1]


@pytest.mark.parametrize(
    "other",
    [
        labelled(classes=("ant", "cow")),
        labelled(np.arange(N) / 2, None),
        bp.Features.from_arrays(X, ["ant"] * N, IDS),
    ],
    ids=["names", "regression", "classes"],
)
def test_rows_with_other_targets_are_other_rows(update, other):
    first = update(labelled())
    second = update(other)
    assert not set(names(first)) & set(names(second))
    assert names(update(labelled())) == names(first)


def test_targets_are_saved_as_a_directory(tmp_path):
    labelled().save(f"{tmp_path / 'many'}/")
    found = bp.open(tmp_path / "many")
    np.testing.assert_array_equal(found.targets, TARGETS.astype(np.float32))
    assert found.labels.tolist() == ["bee", "ant"] * (N // 2)


def test_a_column_that_a_shard_has_not_has_no_value_there(update):
    """So a table may get a column, and only the rows that have a value in it are written anew."""
    first = update(bp.Features.from_arrays(X, ids=IDS))
    ages, sites = np.full(N, np.nan), [""] * N
    ages[5], sites[6] = 7, "north"
    wider = update(bp.Features.from_arrays(X, ids=IDS, meta={"age": ages, "site": sites}))
    assert names(wider)[0] == names(first)[0]
    assert np.isnan(wider.meta["age"][[0, 4]]).all()
    assert wider.meta["site"][[0, 6]].tolist() == ["", "north"]


def test_a_column_that_becomes_text_is_written_anew(update):
    numbers = update(bp.Features.from_arrays(X, ids=IDS, meta={"age": np.arange(N)}))
    texts = update(bp.Features.from_arrays(X, ids=IDS, meta={"age": [str(i) for i in range(N)]}))
    assert not set(names(texts)) & set(names(numbers))


def test_all_views_of_a_path_are_in_one_shard(update):
    """Also where these are more rows than a shard should have."""
    own = bp.Features.from_arrays(X, ids=IDS)
    own.rows.paths = ["a", *["b"] * 7, "c", "c"]
    own.rows.view = np.array([0, *range(7), 0, 1], np.int32)
    found = update(own)
    assert [shard.rows for shard in found.features.directory.manifest.shards] == [1, 7, 2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"phash": True}, "has no perceptual hashes"),
        ({"meta": (("age", "text"),)}, "has no text in the column 'age'"),
        ({"classes": ["ant", "cow"]}, "has a class that the manifest does not list"),
        ({"task": "multilabel"}, "is not for the task multilabel with its names"),
    ],
    ids=["phash", "column", "class", "task"],
)
def test_a_shard_that_is_not_as_the_manifest_says(tmp_path, changes, words):
    own = bp.Features.from_arrays(X, ["ant", "bee"] * 5, IDS, meta={"age": np.arange(N)})
    own.save(f"{tmp_path / 'many'}/")
    storage = LocalStorage(tmp_path / "many")
    manifest = directory.load(storage)
    storage.put("manifest.json", encode(replace(manifest, **changes)))
    with pytest.raises(bp.CacheError, match=words) as caught:
        bp.open(tmp_path / "many")
    assert manifest.shards[0].name in caught.value.what
    assert "backup" in caught.value.next


def test_shards_of_other_targets_than_the_manifest_says(tmp_path):
    labelled().save(f"{tmp_path / 'many'}/")
    storage = LocalStorage(tmp_path / "many")
    manifest = replace(directory.load(storage), classes=["ant", "cow"])
    storage.put("manifest.json", encode(manifest))
    with pytest.raises(bp.CacheError, match="is not for the task multilabel with its names"):
        bp.open(tmp_path / "many")


def test_shards_of_different_length_are_no_directory(tmp_path):
    """Of one recipe all the same: whoever brings arrays says what that is."""
    recipe = {"modality": "mine"}
    sources = [
        bp.Features.from_arrays(X[:, :d], ids=[f"{d}/{i}" for i in range(N)], recipe=recipe)
        for d in (D, D - 1)
    ]
    shards = []
    for number, own in enumerate(sources):
        own.save(f"{tmp_path / str(number)}/")
        shards += directory.load(LocalStorage(tmp_path / str(number))).shards
    storage = LocalStorage(tmp_path / "0")
    for path in (tmp_path / "1").glob("*.h5"):
        path.rename(tmp_path / "0" / path.name)
    manifest = replace(directory.load(storage), shards=tuple(shards))
    storage.put("manifest.json", encode(manifest))
    with pytest.raises(bp.CacheError, match="shards have features of different length"):
        bp.open(tmp_path / "0")


def test_what_happens_to_a_shard_is_told_of_the_directory(update, tmp_path):
    features = update(bp.Features.from_arrays(X, ids=IDS))
    assert repr(features.features) == f"<features of 3 shards: ({N}, {D}), float32, read on demand>"
    sent = pickle.loads(pickle.dumps(features))
    first, second, _ = (tmp_path / "many" / name for name in names(features))
    whole = second.read_bytes()
    second.write_bytes(first.read_bytes())
    for each in (features, sent):
        with pytest.raises(bp.CacheError, match="was replaced after it was opened") as caught:
            each.features[4:6]
        assert caught.value.where == f"{LocalStorage(tmp_path / 'many').name}"
        assert caught.value.next == f"open it again: bp.open({caught.value.where!r})"
        assert caught.value.__cause__ is not caught.value
    second.write_bytes(whole)
    again = bp.open(tmp_path / "many")
    flip(second, whole.index(X[5].tobytes()))
    with pytest.raises(bp.CacheError) as caught:
        again.features[4:6]
    assert "cache repair" in caught.value.next
