import os
from pathlib import Path

import bottleneck_probe as bp
import pytest
from bottleneck_probe.cache.checks import is_hdf5
from bottleneck_probe.cache.locate import locate
from bottleneck_probe.cache.outputs import choose, dataset_of, id_of, output_id
from bottleneck_probe.errors import CacheError
from hypothesis import given, settings
from hypothesis import strategies as st

NODES = ["penultimate", "layer3", "layer3", "a::b", "/model/Relu:0"]
OUTPUTS = [
    {"node": node, "pooling": pooling}
    for node, pooling in zip(NODES, ["none", "avg", "max", "2x2", "avg"], strict=True)
]
ANY = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(deadline=None, max_examples=200)
@given(node=ANY, pooling=ANY)
def test_a_link_of_hdf5_holds_any_id(node, pooling):
    chosen = output_id({"node": node, "pooling": pooling})
    dataset = dataset_of(chosen)
    link = dataset.removeprefix("layers/")
    assert dataset.startswith("layers/")
    assert "/" not in link
    assert "\0" not in link
    assert link != "."
    assert id_of(dataset) == chosen


@pytest.mark.parametrize(
    ("wanted", "position"),
    [
        ("penultimate:none", 0),
        ("penultimate", 0),
        ("layer3:max", 2),
        ("a::b", 3),
        ("a::b:2x2", 3),
        ("/model/Relu:0", 4),
        ("/model/Relu:0:avg", 4),
        ("%2Fmodel%2FRelu:0:avg", 4),
    ],
)
def test_an_output_is_chosen_by_id_by_its_only_node_or_as_in_the_file(wanted, position):
    assert choose(OUTPUTS, wanted, "x.h5") == position


def test_a_node_of_two_outputs_is_told_with_both():
    with pytest.raises(CacheError, match="2 outputs have the node layer3") as caught:
        choose(OUTPUTS, "layer3", "x.h5")
    assert caught.value.expected == "layer3:avg or layer3:max"
    assert "x.h5::layer3:avg" in caught.value.next


def test_an_id_goes_before_a_node_of_that_name():
    outputs = [{"node": "a:b", "pooling": "c"}, {"node": "a", "pooling": "b"}]
    assert choose(outputs, "a:b", "x.h5") == 1


def test_an_unknown_output_is_told_with_all_and_the_nearest():
    with pytest.raises(CacheError, match="no output is called 'layer3:av'") as caught:
        choose(OUTPUTS, "layer3:av", "x.h5")
    assert "layer3:avg, layer3:max, a::b:2x2" in caught.value.expected
    assert "x.h5::layer3:avg" in caught.value.next
    with pytest.raises(CacheError, match="''") as caught:
        choose(OUTPUTS, "", "x.h5")
    assert "--layer" in caught.value.next


def test_an_existing_name_is_never_cut(tmp_path):
    plain, odd = tmp_path / "a.h5", tmp_path / "a.h5::b"
    plain.touch()
    assert locate(plain) == (plain, None)
    assert locate(f"{plain}::b") == (plain, "b")
    assert locate(f"{plain}::") == (plain, "")
    assert locate(f"{plain}::a::b:2x2") == (plain, "a::b:2x2")
    try:
        odd.touch()
    except OSError:
        pytest.skip("this system has no file names with colons")
    assert locate(odd) == (odd, None)
    assert locate(f"{odd}::c") == (odd, "c")
    assert locate(f"{plain}::c") == (plain, "c")


def test_a_folder_with_colons_is_no_output(tmp_path):
    try:
        (tmp_path / "x::y").mkdir()
    except OSError:
        pytest.skip("this system has no file names with colons")
    inside = tmp_path / "x::y" / "a.h5"
    assert locate(inside) == (inside, None)
    assert locate(f"{inside}::b") == (inside, "b")


def test_a_file_that_is_missing_is_told_without_its_output(tmp_path):
    assert locate("no.h5::layer3") == (Path("no.h5"), "layer3")
    assert locate("a::b") == (Path("a::b"), None)
    with pytest.raises(CacheError, match=r"no\.h5 does not exist"):
        bp.open(tmp_path / "no.h5::layer3")
    with pytest.raises(CacheError, match="does not exist"):
        bp.open(os.fspath(tmp_path / "a::") + "b" * 400)


def test_a_chosen_output_is_known_as_a_feature_file(layered):
    path, _, _ = layered()
    assert is_hdf5(f"{path}::layer3.1.conv2:avg")
    assert is_hdf5("missing.h5::layer3.1.conv2:avg")
    other = path.with_name("x.csv")
    other.write_text("path,label\n")
    assert not is_hdf5(f"{other}::layer3")
