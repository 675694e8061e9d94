"""Whatever happened before, a directory holds what one file of the same steps would."""

import shutil

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache import directory
from bottleneck_probe.cache.directory import building, writing
from bottleneck_probe.cache.storage import LocalStorage
from bottleneck_probe.errors import BottleneckError
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.reporter import Silent
from common import load_stub
from hypothesis import given, settings
from hypothesis import strategies as st

stub = load_stub()
STATED = {"backbone": "stub", "engine": "eager", "batch_size": 4, "allow_bad": True}


def same(a, b):
    """Everything a user can see of two `Features` is equal."""
    assert list(a.paths) == list(b.paths)
    np.testing.assert_array_equal(a.keys, b.keys)
    np.testing.assert_array_equal(a.features[:], b.features[:])
    assert list(a.layers) == list(b.layers)
    for name in a.layers:
        np.testing.assert_array_equal(a.layers[name][:], b.layers[name][:])
    np.testing.assert_array_equal(a.y, b.y)
    assert list(a.labels) == list(b.labels)
    assert a.classes == b.classes
    assert list(a.splits) == list(b.splits)
    assert list(a.meta) == list(b.meta)
    for name, column in a.meta.items():
        np.testing.assert_array_equal(column, b.meta[name])
    np.testing.assert_array_equal(a.views, b.views)
    assert (a.phash is None) == (b.phash is None)
    assert a.phash is None or np.array_equal(a.phash, b.phash)
    assert (a.targets is None) == (b.targets is None)
    assert a.targets is None or np.array_equal(a.targets, b.targets, equal_nan=True)
    assert a.task == b.task
    assert a.quarantine == b.quarantine
    assert a.recipe == b.recipe
    assert a.fingerprint == b.fingerprint
    assert a.root == b.root
    assert a.header.store == b.header.store


class World:
    """A folder of images, and the outputs of the same runs over it in both forms."""

    def __init__(self, folder, rng):
        self.folder = folder
        self.root = folder / "photos"
        self.rng = rng
        self.number = 0
        self.options = {}
        self.runs = 0
        self.add_images(6)

    def images(self):
        return sorted(path for path in self.root.rglob("*.png"))

    def some(self, n):
        found = self.images()
        return [found[i] for i in self.rng.permutation(len(found))[:n]]

    def add_images(self, n):
        for _ in range(n):
            place = ("ants", "bees", "ants/big", "wasps")[self.rng.integers(4)]
            stub.paint(self.root / place / f"{self.rng.integers(1000):03d}.png", self.number)
            self.number += 1

    def edit(self):
        for path in self.some(2):
            stub.paint(path, self.number)
            self.number += 1

    def remove(self):
        for path in self.some(self.rng.integers(1, 5)):
            if len(self.images()) > 2:
                path.unlink()

    def relabel(self):
        old = ("ants", "bees", "wasps")[self.rng.integers(3)]
        if (self.root / old).exists():
            new = self.root / ("ants", "moths", "zebras")[self.rng.integers(3)]
            for path in sorted((self.root / old).glob("*.png")):
                new.mkdir(exist_ok=True)
                shutil.move(path, new / path.name)

    def split(self):
        for path in self.some(3):
            target = self.root / "train" / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)

    def spoil(self):
        for path in self.some(1):
            path.write_bytes(b"no image at all")

    def copy(self):
        for path in self.some(2):
            shutil.copy(path, path.with_name(f"copy-{path.name}"))

    def layer(self):
        self.options["layer"] = ["penultimate", "double"]

    def add(self):
        self.options["add"] = True

    def mirror(self):
        self.options.pop("add", None)

    def narrow(self):
        self.options["store"] = ("float16", "float32")[self.rng.integers(2)]

    def table(self):
        """Labels and columns of a table, whose columns come and go."""
        columns = self.rng.permutation(["age", "site", "split"])
        names = ["path", "label", *columns[: self.rng.integers(4)]]
        lines = [",".join(names)]
        # Mostly as it was, so that often one value alone makes a row another one.
        rare = self.rng.random() < 0.5
        for path in self.images():
            values = {
                "path": path.relative_to(self.root).as_posix(),
                "label": ("x", "y", "")[self.rng.integers(3) if self.rng.random() < 0.1 else 0],
                "age": ("1.5", "7", "", "old")[self.rng.integers(4 if rare else 3)],
                "site": ("", "north")[self.rng.integers(2)],
                "split": ("train", "test")[self.rng.integers(2)],
            }
            lines.append(",".join(values[name] for name in names))
        table = self.root / "table.csv"
        table.write_text("\n".join(lines) + "\n")

    def folder_again(self):
        (self.root / "table.csv").unlink(missing_ok=True)

    def run(self):
        """Both forms, or the same error from both; what came of it."""
        results = []
        self.runs += 1
        for output in (str(self.folder / "one.h5"), f"{self.folder / 'many'}/"):
            table = self.root / "table.csv"
            found = find_images(str(table) if table.exists() else str(self.root))
            try:
                result = run(found, output=output, reporter=Silent(), **STATED, **self.options)
                counts = (result.seen, result.computed, result.quarantined, result.removed)
                results.append((*counts, result.written))
            except BottleneckError as error:
                results.append(type(error).__name__)
        assert results[0] == results[1]
        return results[0]


STEPS = [
    World.edit,
    World.remove,
    World.relabel,
    World.split,
    World.spoil,
    World.copy,
    World.layer,
    World.add,
    World.mirror,
    World.narrow,
    World.table,
    World.table,
    World.table,
    World.folder_again,
    lambda world: world.add_images(3),
]


@settings(deadline=None, max_examples=3)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.sampled_from([2, 5, 1 << 16]),
    small=st.sampled_from([3, 32]),
    steps=st.lists(st.lists(st.sampled_from(STEPS), min_size=1, max_size=3), max_size=6),
)
def test_a_directory_holds_what_one_file_would(seed, rows, small, steps, tmp_path_factory):
    check_history(tmp_path_factory.mktemp("history"), seed, rows, small, steps)


def check_history(folder, seed, rows, small, steps):
    """Go through a history; how many runs it had."""
    world = World(folder, np.random.default_rng(seed))
    with pytest.MonkeyPatch.context() as patch:
        stub.install(patch.setattr, patch.setitem)
        patch.setattr(building, "SHARD_ROWS", rows)
        patch.setattr(writing, "SMALL_COUNT", small)
        for changes in [[], *steps]:
            for change in changes:
                change(world)
            before = world.run()
            one, many = world.folder / "one.h5", world.folder / "many"
            if not one.exists():
                continue
            same(bp.open(one), bp.open(many))
            listed = {part.name for part in directory.load(LocalStorage(many)).parts()}
            assert {path.name for path in many.iterdir()} == listed | {"manifest.json"}
            if isinstance(before, tuple):
                assert world.run()[1] == 0  # computed
                same(bp.open(one), bp.open(many))
    return world.runs
