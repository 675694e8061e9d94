"""Several outputs in one file: written, read, chosen, carried along, and refused when wrong."""

import pickle
import re
import tracemalloc

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.cache import blocks as blocks_module
from bottleneck_probe.cache.format import Layer, read, read_header, write
from bottleneck_probe.errors import CacheError
from bottleneck_probe.recipe import fingerprint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = ["penultimate:none", "layer3:avg", "/stem/./Relu%:0:2x2", "layer3:max"]
LINK = "layers/%2Fstem%2F.%2FRelu%25:0:2x2"


@pytest.mark.parametrize("store", ["float32", "float16"])
def test_every_output_is_read_back_under_its_id(layered, store):
    path, values, rows = layered(store=store)
    found = bp.open(path)
    assert found.outputs == NAMES == list(values)
    np.testing.assert_array_equal(found.features, values[NAMES[0]].astype(store))
    for name, X in values.items():
        one = found.output(name)
        np.testing.assert_array_equal(one.features, X.astype(store))
        assert one.outputs == [name]
        assert one.paths.tolist() == rows.paths
        assert one.file == path
        assert f"{one.recipe['outputs'][0]['node']}:{one.recipe['outputs'][0]['pooling']}" == name
        assert one.fingerprint == fingerprint(one.recipe, one.recipe["outputs"][0])
    with h5py.File(path) as h5:
        assert h5[LINK].dtype == np.dtype(store)
        for layer in h5["layers"].values():
            name = f"{layer.attrs['node']}:{layer.attrs['pooling']}"
            assert found.output(name).fingerprint == layer.attrs["fingerprint"]


def test_an_output_is_chosen_in_the_name_of_the_file(layered):
    path, values, _ = layered()
    one = bp.open(f"{path}::layer3:max")
    np.testing.assert_array_equal(one.features, values["layer3:max"])
    assert one.name == f"{path}::layer3:max"
    assert bp.open(f"{path}::penultimate").name == f"{path}::penultimate:none"
    assert bp.open(path).name == str(path)
    assert bp.open(f"{path}::penultimate").outputs == NAMES[:1]
    assert bp.open(f"{path}::penultimate").fingerprint == bp.open(path).fingerprint
    with pytest.raises(CacheError, match="2 outputs have the node layer3"):
        bp.open(f"{path}::layer3")
    with pytest.raises(CacheError) as caught:
        bp.open(f"{path}::layr3:avg")
    assert f"did you mean {path}::layer3:avg?" in caught.value.next


def test_a_chosen_output_does_not_read_the_others(layered):
    """Damage in one layer is no matter of the others, and nothing is read before it is asked for."""
    path, values, _ = layered()
    with h5py.File(path, "r+") as h5:
        h5["layers/layer3:avg"][70, 2] += 1
    found = bp.open(path)
    np.testing.assert_array_equal(found.features, values[NAMES[0]])
    np.testing.assert_array_equal(found.output("layer3:max").features, values["layer3:max"])
    damaged = found.output("layer3:avg").features
    np.testing.assert_array_equal(damaged[:64], values["layer3:avg"][:64])
    with pytest.raises(CacheError, match="is damaged: layers/layer3:avg, rows 64 to 99, differ"):
        damaged[70]


def test_the_content_covers_the_layers(layered):
    path, values, _ = layered()
    with h5py.File(path) as h5:
        blocks = [values["layer3:avg"][:64], values["layer3:avg"][64:]]
        expected = [blake3(block.tobytes()).digest() for block in blocks]
        assert [row.tobytes() for row in h5["checksums/layers/layer3:avg"][:]] == expected
    _, _, stored = read(path)
    other, _, _ = layered(name="other.h5", seed=9)
    assert read(other)[2].identity != stored.identity
    with h5py.File(path, "r+") as h5:
        h5["checksums/layers/layer3:avg"][0, 0] ^= 1
    with pytest.raises(CacheError, match="checksums contradict"):
        read(path)


def test_a_file_that_was_replaced_is_noticed_by_a_layer(layered):
    path, _, _ = layered()
    layer = bp.open(f"{path}::layer3:avg").features
    layered(seed=5)
    with pytest.raises(CacheError, match="was replaced") as caught:
        layer[0]
    assert f"{path}::layer3:avg" in caught.value.next


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.lists(
        st.tuples(
            *[st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)] * 2
        ),
        max_size=4,
        unique_by=lambda name: f"{name[0]}:{name[1]}",
    ),
    cut=st.integers(1, 9),
)
def test_nodes_of_any_name_are_written_and_read(
    tmp_path_factory, header, rows, features, names, cut
):
    outputs = [{"node": node, "pooling": pooling} for node, pooling in names]
    recipe = {"backbone": "x", "outputs": [{"node": "pen\0", "pooling": "none"}, *outputs]}
    X = {f"{node}:{pooling}": features(9, 2, i) for i, (node, pooling) in enumerate(names)}
    path = tmp_path_factory.getbasetemp() / "names.h5"
    layers = [
        Layer(output, fingerprint(recipe, output), [x[i : i + cut] for i in range(0, 9, cut)])
        for output, x in zip(outputs, X.values(), strict=True)
    ]
    write(path, header(recipe), rows(9), [features(9)], layers)
    found = bp.open(path)
    assert found.outputs[1:] == list(X)
    for name, x in X.items():
        np.testing.assert_array_equal(found.output(name).features, x)


def test_subsets_and_copies_keep_every_output(layered, tmp_path):
    path, values, _ = layered()
    found = bp.open(path)
    part = found.subset([70, 2, 2, 9])
    for name in NAMES:
        np.testing.assert_array_equal(part.output(name).features, values[name][[70, 2, 2, 9]])
    copy = bp.open(found.subset(slice(20, 90)).save(tmp_path / "copy.h5"))
    assert copy.outputs == NAMES
    for name in NAMES:
        np.testing.assert_array_equal(copy.output(name).features, values[name][20:90])
        assert copy.output(name).fingerprint == found.output(name).fingerprint
    assert found.save(tmp_path / "same.h5").read_bytes() == path.read_bytes()
    alone = bp.open(found.output("layer3:max").save(tmp_path / "alone.h5"))
    np.testing.assert_array_equal(alone.features, values["layer3:max"])
    assert alone.fingerprint == found.output("layer3:max").fingerprint
    assert alone.outputs == ["layer3:max"]
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.output("layer3:max").features, values["layer3:max"])


def test_outputs_in_memory_are_ordered_like_the_rows(header, rows, layers, tmp_path):
    recipe, values, _ = layers(10)
    table, backwards = rows(10), np.arange(10)[::-1]
    arrays = {name: X[backwards] for name, X in values.items()}
    first = arrays.pop(NAMES[0])
    found = bp.Features(header(recipe), table.take(backwards), first, layers=arrays)
    copy = bp.open(found.save(tmp_path / "x.h5"))
    assert copy.paths.tolist() == table.paths
    for name in NAMES:
        np.testing.assert_array_equal(copy.output(name).features, values[name])
    with pytest.raises(CacheError, match="no output is called 'layer4'") as caught:
        found.output("layer4")
    assert caught.value.next == "did you mean .output('layer3')?"
    with pytest.raises(CacheError, match="2 outputs have the node layer3") as caught:
        found.output("layer3")
    assert caught.value.next == ".output('layer3:avg') chooses one"
    with pytest.raises(CacheError, match="rows differ: layer3:max 9, paths 10"):
        bp.Features(header(recipe), table, first, layers={**arrays, "layer3:max": first[:9]})
    with pytest.raises(CacheError, match="the layers are none") as caught:
        bp.Features(header(recipe), table, first)
    assert ", ".join(NAMES[1:]) in caught.value.expected


def test_arrays_of_ones_own_are_the_first_output_of_a_recipe(layers):
    recipe, values, _ = layers(5)
    own = bp.Features.from_arrays(values[NAMES[0]], recipe=recipe)
    assert own.outputs == NAMES[:1]
    with pytest.raises(bp.InputError, match="outputs are"):
        bp.Features.from_arrays(values[NAMES[0]], recipe={"outputs": ["layer3"]})


def test_what_it_shows_has_the_outputs_where_there_are_several(layered, written):
    found = bp.open(layered()[0])
    assert "outputs: 'penultimate:none' 8, 'layer3:avg' 4, '/stem" in repr(found)
    assert "layer3:max" in found._repr_html_()
    assert "outputs" not in repr(found.output("layer3:max"))
    assert "outputs" not in repr(bp.open(written(name="one.h5")[0]))


def test_exports_hold_the_chosen_output_alone(layered, tmp_path):
    path, values, _ = layered()
    found = bp.open(path)
    for features, name in ((found, NAMES[0]), (found.output("layer3:avg"), "layer3:avg")):
        with np.load(features.to(tmp_path / "x.npz")) as arrays:
            np.testing.assert_array_equal(arrays["features"], values[name])
            assert str(arrays["fingerprint"]) == found.output(name).fingerprint
            assert str(arrays["recipe"]).count('"node"') == 1
        frame = features.to_pandas()
        np.testing.assert_array_equal(frame.filter(regex=r"^f\d"), values[name])


# Writing


def nan(layers):
    layers[1].blocks[0][70, 3] = np.nan


def short(layers):
    layers[0].blocks[0] = layers[0].blocks[0][:99]


def long(layers):
    layers[0].blocks.append(layers[0].blocks[0][:1])


def empty(layers):
    layers[2].blocks.clear()


def ragged(layers):
    layers[0].blocks[:] = [layers[0].blocks[0][:50], layers[1].blocks[0][50:]]


def flat(layers):
    layers[0].blocks[0] = layers[0].blocks[0][:, 0]


def missing(layers):
    del layers[1]


def swapped(layers):
    layers[0], layers[1] = layers[1], layers[0]


def other_fingerprint(layers):
    layers[1] = Layer(layers[1].output, layers[0].fingerprint, layers[1].blocks)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (nan, "NaN or infinity in the output /stem/./Relu%:0:2x2 of row 70"),
        (short, "rows differ: layers/layer3:avg 99, keys 100"),
        (long, "rows differ: layers/layer3:avg over 100, keys 100"),
        (empty, "layers/layer3:max has no row to write"),
        (ragged, "layers/layer3:avg are (50, 12)"),
        (flat, "layers/layer3:avg are (100,)"),
        (missing, "the layers are layer3:avg, layer3:max"),
        (swapped, "the layers are /stem/./Relu%:0:2x2, layer3:avg"),
        (other_fingerprint, "of /stem/./Relu%:0:2x2 does not belong to the recipe"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_layers_that_do_not_fit_are_not_written(tmp_path, header, rows, layers, change, words):
    recipe, values, several = layers(100)
    change(several)
    with pytest.raises(CacheError, match=re.escape(words)):
        write(tmp_path / "x.h5", header(recipe), rows(100), [values[NAMES[0]]], several)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([{"node": "a", "pooling": "b:c"}, {"node": "a:b", "pooling": "c"}], "are called a:b:c"),
        ([{"node": "a"}], "is no output"),
        ([{"node": 3, "pooling": "avg"}], "is no output"),
        (["layer3:avg"], "is no output"),
        ([{"node": "\0", "pooling": "avg"}], "NUL"),
    ],
)
def test_outputs_that_cannot_be_told_apart_or_named_are_not_written(
    tmp_path, header, rows, features, outputs, words
):
    recipe = {"outputs": [{"node": "penultimate", "pooling": "none"}, *outputs]}
    layers = []
    if "\0" in str(outputs[0]) or "NUL" in words:
        layers = [Layer(each, fingerprint(recipe, each), [features(3)]) for each in outputs]
    with pytest.raises(CacheError, match=words):
        write(tmp_path / "x.h5", header(recipe), rows(3), [features(3)], layers)
    assert list(tmp_path.iterdir()) == []


def test_layers_are_asked_one_after_the_other_and_never_held(tmp_path, header, rows, monkeypatch):
    """Each output is 16 MB; in memory lie a piece of 0.8 MB and a block of 1 MB."""
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 1 << 20)
    n, d, cut = 2000, 2000, 100
    outputs = [{"node": f"layer{i}", "pooling": "avg"} for i in range(3)]
    recipe = {"outputs": outputs}
    asked = []

    def blocks(number):
        for start in range(0, n, cut):
            asked.append(number)
            yield np.full((min(cut, n - start), d), number, np.float32)

    layers = [
        Layer(output, fingerprint(recipe, output), blocks(i))
        for i, output in enumerate(outputs)
        if i
    ]
    table = rows(n)
    tracemalloc.start()
    try:
        write(tmp_path / "x.h5", header(recipe), table, blocks(0), layers)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert asked == [0] * 20 + [1] * 20 + [2] * 20
    assert peak < 8 << 20
    assert bp.open(tmp_path / "x.h5").output("layer2").features[n - 1, d - 1] == 2


# Reading


def edit(path, change):
    with h5py.File(path, "r+") as h5:
        change(h5)


def as_of_another_program(h5):
    """A file without checksums: those of ours always have them."""
    del h5["checksums"], h5.attrs["created_by"]


def replace(h5, name, data, **attributes):
    kept = dict(h5[name].attrs) | attributes
    del h5[name]
    made = h5.create_dataset(name, data=data)
    made.attrs.update(kept)


def outside(h5):
    del h5["layers/layer3:avg"]
    h5["layers/layer3:avg"] = h5py.ExternalLink("secret.h5", "keys")


def soft(h5):
    del h5["layers/layer3:avg"]
    h5["layers/layer3:avg"] = h5py.SoftLink("/features")


def same_as_features(h5):
    del h5["layers/layer3:avg"]
    h5["layers/layer3:avg"] = h5["features"]


def group(h5):
    del h5["layers/layer3:avg"]
    h5.create_group("layers/layer3:avg")


def never_written(h5):
    attributes = dict(h5["layers/layer3:avg"].attrs)
    del h5["layers/layer3:avg"]
    h5.create_dataset("layers/layer3:avg", (100, 4), "f4").attrs.update(attributes)


AVG = "layers/layer3:avg"
OTHER = np.zeros((100, 4), np.float32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h5: replace(h5, AVG, OTHER[:99]), "features 100, layers/layer3:avg 99"),
        (lambda h5: replace(h5, AVG, OTHER.astype("f8")), "layers/layer3:avg is 2-dimensional"),
        (lambda h5: replace(h5, AVG, OTHER.astype("f2")), "layers/layer3:avg is 2-dimensional"),
        (lambda h5: replace(h5, AVG, OTHER.astype("i4")), "2-dimensional int32"),
        (lambda h5: replace(h5, AVG, OTHER[:, 0]), "layers/layer3:avg is 1-dimensional"),
        (lambda h5: replace(h5, AVG, OTHER[..., None]), "layers/layer3:avg is 3-dimensional"),
        (lambda h5: h5[AVG].attrs.__setitem__("node", "layer2"), "says that it is layer2:avg"),
        (lambda h5: h5[AVG].attrs.__setitem__("pooling", 3), "says that it is layer3:None"),
        (lambda h5: h5[AVG].attrs.__delitem__("node"), "says that it is None:avg"),
        (lambda h5: h5[AVG].attrs.__delitem__("fingerprint"), "of layer3:avg does not belong"),
        (lambda h5: h5[AVG].attrs.__setitem__("fingerprint", h5.attrs["fingerprint"]),
            "of layer3:avg does not belong"),
        (lambda h5: h5.__delitem__(AVG), "lacks the output layer3:avg"),
        (lambda h5: h5.__delitem__("layers"), "lacks the output"),
        (lambda h5: h5.move(LINK, "layers/x:y"), "lacks the output /stem/./Relu%:0:2x2"),
        (lambda h5: h5.create_dataset("layers/a:b", data=OTHER), "recipe knows no output a:b"),
        (outside, "layers/layer3:avg points outside"),
        (soft, "layers/layer3:avg points outside"),
        (same_as_features, "stands twice"),
        (group, "layers/layer3:avg is no dataset"),
        (never_written, "layers/layer3:avg was declared, but never written"),
    ],
    ids=range(20),
)  # fmt: skip
@pytest.mark.parametrize("checksums", [True, False], ids=["checksums", "none"])
def test_layers_that_were_tampered_with_are_refused_in_plain_words(
    layered, change, words, checksums
):
    path, _, _ = layered()
    edit(path, change)
    if not checksums:
        edit(path, as_of_another_program)
    for reader in (read, read_header, bp.open):
        with pytest.raises(CacheError, match=re.escape(words)) as caught:
            reader(path)
        assert str(path) in str(caught.value)


def test_checksums_of_another_number_of_rows_are_refused(layered):
    from bottleneck_probe.cache import checksums

    path, _, _ = layered()

    def shorten(h5):
        group, sums = h5["checksums"], {}
        replace(h5, f"checksums/{AVG}", h5[f"checksums/{AVG}"][:1])
        group.visititems(
            lambda name, item: (
                sums.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
        group.attrs["content"] = checksums.content(sums)

    edit(path, shorten)
    with pytest.raises(CacheError, match="1 checksums for 100 rows"):
        read(path)


def test_without_checksums_a_layer_of_another_program_is_read_and_checked(layered):
    path, values, _ = layered()
    edit(path, as_of_another_program)
    np.testing.assert_array_equal(bp.open(f"{path}::layer3:avg").features, values["layer3:avg"])
    edit(path, lambda h5: h5[AVG].__setitem__((4, 1), np.inf))
    with pytest.raises(CacheError, match="NaN or infinity in the layers/layer3:avg of row 4"):
        bp.open(f"{path}::layer3:avg").features[:]


def test_a_flipped_byte_of_a_layer_is_found(layered):
    path, values, _ = layered()
    whole = path.read_bytes()
    start = whole.index(values["layer3:avg"].tobytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(start, start + values["layer3:avg"].nbytes, 20):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with pytest.raises(CacheError, match="is damaged: layers/layer3:avg"):
            bp.open(path).output("layer3:avg").features[:]
