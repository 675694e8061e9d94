"""Rows, labels, paths and keys stay together, whatever order the files come in and which are broken."""

import tempfile
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BROKEN = (b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\nbut no more")

# What one file is: an image with a colour of its own, the bytes of an earlier one, or unusable.
FILES = st.lists(
    st.one_of(
        st.just("image"),
        st.tuples(st.just("copy"), st.integers(0, 30)),
        st.tuples(st.just("broken"), st.integers(0, len(BROKEN) - 1)),
    ),
    min_size=1,
    max_size=24,
)


def lay_out(stub, root: Path, kinds, names) -> tuple[dict[str, int], dict[str, bytes]]:
    """Write the files; which colour each good path has, and the bytes of every path."""
    colours: dict[str, int] = {}
    content: dict[str, bytes] = {}
    made: list[tuple[int, bytes]] = []
    for number, (kind, name) in enumerate(zip(kinds, names, strict=True)):
        label = ("ants", "bees", "wasps")[(number * 7 + name) % 3]
        path = f"{label}/{name:05d}.png"
        if kind == "image" or (kind[0] == "copy" and not made):
            stub.paint(root / path, number)
            made.append((number, (root / path).read_bytes()))
            colours[path] = number
        elif kind[0] == "copy":
            colours[path], data = made[kind[1] % len(made)]
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(BROKEN[kind[1]])
        content[path] = (root / path).read_bytes()
    return colours, content


def check(stub, cache: bp.Features, colours: dict[str, int], content: dict[str, bytes]) -> None:
    """Every row is that of its path, and every path has a row or a reason."""
    paths = list(cache.paths)
    assert paths == sorted(colours, key=str.encode)
    assert [path for path, _ in cache.quarantine] == sorted(set(content) - set(colours))
    assert all(reason for _, reason in cache.quarantine)
    stored = cache.features[:]
    for row, path in enumerate(paths):
        np.testing.assert_allclose(stored[row], stub.feature_of(colours[path]), atol=1e-4)
        assert cache.labels[row] == path.split("/")[0]
        assert cache.classes[cache.y[row]] == path.split("/")[0]
        assert cache.keys[row].tobytes() == blake3(content[path]).digest()


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(kinds=FILES, data=st.data(), batch=st.integers(1, 6), workers=st.integers(1, 4))
def test_every_row_belongs_to_its_path(stub, calls, kinds, data, batch, workers):
    names = data.draw(st.permutations(range(len(kinds))))
    from bottleneck_probe.extraction.api import find_images, run
    from bottleneck_probe.reporter import Silent

    with tempfile.TemporaryDirectory() as folder:
        root, output = Path(folder) / "photos", Path(folder) / "x.h5"
        colours, content = lay_out(stub, root, kinds, names)
        calls.forwards = 0
        stated = {
            "backbone": "stub",
            "batch_size": batch,
            "workers": workers,
            "engine": "eager",
            "allow_bad": True,
        }

        def extract(images):
            return run(images, output=output, reporter=Silent(), **stated)

        if not colours:
            with pytest.raises(bp.InputError, match=r"none of the .* can be used"):
                extract(find_images(root))
            assert not output.exists()
            return
        first = extract(find_images(root))
        check(stub, first.features, colours, content)
        unique = len(set(colours.values()))
        assert first.computed == unique
        assert first.reused == len(colours) - unique
        assert first.quarantined == len(content) - len(colours)
        assert first.computed + first.reused + first.quarantined == first.seen == len(content)
        assert calls.forwards == -(-unique // batch)
        # As a list in any order, on top of what is there: the same file, and nothing computed.
        order = data.draw(st.permutations(sorted(content)))
        again = extract(find_images([root / path for path in order], root=root))
        check(stub, again.features, colours, content)
        assert (again.computed, again.reused) == (0, len(colours))
        assert again.seen == len(content)


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(kinds=FILES, data=st.data(), batch=st.integers(1, 5))
def test_embed_answers_in_the_order_of_the_list(stub, calls, kinds, data, batch):
    kinds = [kind for kind in kinds if kind[0] != "broken"] or ["image"]
    names = data.draw(st.permutations(range(len(kinds))))
    with tempfile.TemporaryDirectory() as folder:
        colours, _ = lay_out(stub, Path(folder), kinds, names)
        order = data.draw(st.lists(st.sampled_from(sorted(colours)), min_size=1, max_size=12))
        rows = bp.embed([Path(folder) / path for path in order], backbone="stub", batch_size=batch)
        expected = np.stack([stub.feature_of(colours[path]) for path in order])
        np.testing.assert_allclose(rows, expected, atol=1e-4)


@pytest.mark.parametrize(("batch", "workers"), [(1, 3), (7, 1), (64, 4)])
def test_neither_batches_nor_order_nor_threads_change_a_bit(stub, calls, tmp_path, batch, workers):
    """The colour tells the image: 100 of them, under names in another order each time."""
    names = np.random.default_rng(batch).permutation(100)
    for number, name in enumerate(names):
        stub.paint(tmp_path / "photos" / f"{name:03d}.png", 257 * number)
    cache = bp.extract(
        tmp_path / "photos",
        output=tmp_path / "x.h5",
        backbone="stub",
        batch_size=batch,
        workers=workers,
        quiet=True,
    )
    assert calls.forwards == -(-100 // batch)
    numbers = np.argsort(names)  # of the paths, in their order
    expected = np.stack([stub.feature_of(257 * number) for number in numbers])
    np.testing.assert_array_equal(cache.features[:], expected)


def test_equal_bytes_in_many_places_are_computed_once(stub, calls, tmp_path):
    for name in ("a/x.png", "b/x.png", "b/deep/er/y.png", "c/z.png"):
        stub.paint(tmp_path / "photos" / name, 5)
    cache = bp.extract(
        tmp_path / "photos", output=tmp_path / "x.h5", backbone="stub", batch_size=1, quiet=True
    )
    assert calls.forwards == 1
    assert len(cache) == 4
    assert np.ptp(cache.features[:], axis=0).max() == 0


def test_embed_refuses_rather_than_leave_a_row_out(stub, calls, tmp_path):
    good = stub.paint(tmp_path / "a.png", 1)
    bad = tmp_path / "b.png"
    bad.write_bytes(b"")
    with pytest.raises(bp.InputError, match=r"empty"):
        bp.embed([good, bad], backbone="stub")


def test_embed_takes_arrays_and_pillow_images_alike(stub, calls):
    from PIL import Image

    pictures = [Image.new("RGB", (10, 10), stub.colour_of(n)) for n in (300, 4, 77)]
    expected = np.stack([stub.feature_of(n) for n in (300, 4, 77)])
    np.testing.assert_allclose(bp.embed(pictures, backbone="stub"), expected, atol=1e-4)
    arrays = [np.asarray(p) for p in pictures]
    np.testing.assert_allclose(bp.embed(arrays, backbone="stub"), expected, atol=1e-4)
    stacked = np.stack(arrays)
    np.testing.assert_allclose(bp.embed(stacked, backbone="stub"), expected, atol=1e-4)


def test_embed_answers_in_the_order_of_a_tables_rows(stub, calls, tmp_path):
    numbers = [7, 300, 2, 90]
    names = ["z.png", "b.png", "y.png", "a.png"]
    for name, number in zip(names, numbers, strict=True):
        stub.paint(tmp_path / name, number)
    (tmp_path / "list.csv").write_text("\n".join(["path", *names]) + "\n")
    expected = np.stack([stub.feature_of(number) for number in numbers])
    rows = bp.embed(tmp_path / "list.csv", backbone="stub")
    np.testing.assert_allclose(rows, expected, atol=1e-4)
