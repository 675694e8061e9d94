"""Tables of images: what is written is what counts, and contradictions are errors with lines."""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bottleneck_probe.errors import InputError
from bottleneck_probe.images import lookup, tables, tabular
from bottleneck_probe.images.find import find
from bottleneck_probe.images.tabular import read_table
from bottleneck_probe.remote import door
from hypothesis import given, settings
from hypothesis import strategies as st

Tree = Callable[..., Path]


def table(root: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = root / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(found: object) -> dict[str, tuple[str | None, str]]:
    return {s.path: (s.label, s.split) for s in found.samples}


def test_path_label_split_and_the_rest(tree: Tree):
    root = tree("a/1.jpg", "a/2.jpg", "3.jpg")
    text = "split,path,label,age,patient,note\nTrain,a/2.jpg,ants,3.5,007,x\n"
    text += "DEV,3.jpg,,,012,\n,a/1.jpg,bees,-2,1,é\n"
    found = find(table(root, text))
    assert (found.root, found.name, list(found.order)) == (str(root), "table", [1, 2, 0])
    assert rows(found) == {
        "3.jpg": (None, "val"),
        "a/1.jpg": ("bees", ""),
        "a/2.jpg": ("ants", "train"),
    }
    first, second, third = (s.meta for s in found.samples)
    assert math.isnan(first["age"])
    assert (second["age"], third["age"]) == (-2.0, 3.5)
    assert [m["patient"] for m in (first, second, third)] == ["012", "1", "007"]
    assert [m["note"] for m in (first, second, third)] == ["", "é", "x"]
    assert found.notes == []


@pytest.mark.parametrize("label", ["NA", "null", "None", "nan", "007", "1.0", "1", " x ", "a;b"])
def test_labels_are_text_as_written(tree: Tree, label: str):
    root = tree("1.jpg", "2.jpg")
    found = find(table(root, f"path,label\n1.jpg,{label}\n2.jpg,\n"))
    assert [s.label for s in found.samples] == [label, None]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("delimiter", [b",", b";", b"\t"], ids=["comma", "semicolon", "tab"])
def test_spellings_of_csv(tree: Tree, bom: bytes, end: bytes, delimiter: bytes):
    root = tree("a,;1.jpg", "2.jpg")
    lines = [b"path,label", b'"a,;1.jpg",ants', b"2.jpg,bees", b""]
    text = bom + end.join(
        line.replace(b",", delimiter) if b'"' not in line else b'"a,;1.jpg"' + delimiter + b"ants"
        for line in lines
    )
    found = find(table(root, text))
    assert rows(found) == {"2.jpg": ("bees", ""), "a,;1.jpg": ("ants", "")}
    assert found.notes == []  # nothing had to be guessed: the first column is called path


def test_tsv_is_split_at_tabs_whatever_else_it_holds(tree: Tree):
    root = tree("1.jpg")
    assert rows(find(table(root, "path\tlabel, long\n1.jpg\tx\n", "t.tsv")))["1.jpg"] == (None, "")


def test_ids_without_suffix(tree: Tree):
    root = tree("img/a1.jpg", "img/a2.png", "img/a3.1.jpg")
    found = find(
        table(root, "id,breed\na1,x\na2,y\na3.1,x\n"), root=root / "img", label_columns=["breed"]
    )
    assert rows(found) == {"a1.jpg": ("x", ""), "a2.png": ("y", ""), "a3.1.jpg": ("x", "")}
    assert "the column id (3 of 3 values" in found.notes[0]


def test_ids_of_images_in_folders_below_the_root(tree: Tree):
    root = tree("train/a1.jpg", "train/deep/a2.jpg", "train/a9.jpg")
    found = find(table(root, "id,label\na1,x\na2,y\ngone,y\n"))
    assert [(s.path, s.fault) for s in found.samples] == [
        ("gone", "no such file"),
        ("train/a1.jpg", None),
        ("train/deep/a2.jpg", None),
    ]
    assert "(2 of 3 values" in found.notes[0]


def test_a_path_column_asks_for_paths_before_names(tree: Tree):
    """A missing file is missing, even if another folder has one of its name."""
    root = tree("a/1.jpg", "b/2.jpg")
    found = find(table(root, "path\na/1.jpg\n2.jpg\n"))
    assert [(s.path, s.fault) for s in found.samples] == [
        ("2.jpg", "no such file"),
        ("a/1.jpg", None),
    ]


def test_two_files_for_one_id(tree: Tree):
    root = tree("a1.jpg", "a1.png", "a2.jpg")
    with pytest.raises(InputError, match="two files for one id") as caught:
        find(table(root, "path\na2\na1\n"))
    assert caught.value.where.endswith("table.csv, line 3")


def test_several_columns_that_name_files(tree: Tree):
    root = tree("1.jpg", "2.jpg")
    text = table(root, "image,copy\n1.jpg,2.jpg\n2.jpg,1.jpg\n")
    with pytest.raises(InputError, match="several columns name files: image, copy"):
        find(text)
    assert len(find(text, path_column="copy").samples) == 2


def test_a_label_that_is_also_a_folder_is_no_path(tree: Tree):
    root = tree("ants/1.jpg", "bees/2.jpg")
    found = find(table(root, "file,class\nants/1.jpg,ants\nbees/2.jpg,bees\n"))
    assert list(rows(found)) == ["ants/1.jpg", "bees/2.jpg"]
    assert "no column is called label" in found.notes[1]


def test_a_table_without_paths(tree: Tree):
    root = tree("1.jpg")
    with pytest.raises(InputError) as caught:
        find(table(root, "file,class\nx.jpg,ants\n"))
    assert caught.value.what == "found: file, class; expected: path"
    with pytest.raises(InputError, match=r"did you mean file\?"):
        find(table(root, "file,class\n1.jpg,ants\n"), path_column="flie")


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        (b"", "empty", "table.csv"),
        (b"\n\n", "empty", "table.csv"),
        (b"path,label\n", "no rows", "table.csv"),
        (
            b"path,label\n1.jpg\n1.jpg,a,b\n1.jpg,a\n",
            "another number of values.*1, 3",
            "lines 2, 3",
        ),
        (b"path,label\n1.jpg,\0\n", "NUL", "line 2"),
        (b"path,label\n1.jpg,caf\xe9\n", "E9 is not UTF-8", "line 2"),
        ("path,label\n1.jpg,x\n".encode("utf-16"), "UTF-16", "table.csv"),
        (b'path,label\n1.jpg,x\n2.jpg,"open\n', "unexpected end", "from line 3 on"),
        (b"path,path\n1.jpg,x\n", "columns of one name: path", "table.csv"),
        (b"path,label\n,x\n1.jpg,y\n,z\n", "without a value", "lines 2, 4"),
        (b"path,split\n1.jpg,train\n1.jpg,tset\n", "unknown split.*tset", "line 3"),
        (b"path,label\n1.jpg,a\nx,b\n./1.jpg,c\n", "two labels, 'a' and 'c'", "lines 2, 4"),
        (b"path,split\n1.jpg,test\n1.jpg,train\n", "two splits", "lines 2, 3"),
    ],
)
def test_errors_say_what_and_where(tree: Tree, text: bytes, what: str, where: str):
    root = tree("1.jpg")
    with pytest.raises(InputError, match=what) as caught:
        find(table(root, text))
    assert caught.value.where.endswith(where)


def test_five_offenders_are_shown(tree: Tree):
    root = tree("1.jpg")
    with pytest.raises(InputError) as caught:
        find(table(root, "path,label\n" + "1.jpg\n" * 8))
    assert caught.value.where.endswith("lines 2, 3, 4, 5, 6 and 3 more")


def test_lines_are_counted_through_quoted_line_breaks(tree: Tree):
    root = tree("1.jpg")
    with pytest.raises(InputError) as caught:
        find(table(root, 'path,note\n1.jpg,"a\nb"\n\n1.jpg\n'))
    assert caught.value.where.endswith("line 5")


def test_the_same_row_twice_is_told(tree: Tree):
    root = tree("1.jpg", "2.jpg")
    found = find(table(root, "path,label\n1.jpg,a\n2.jpg,b\na/../1.jpg,a\n"))
    assert rows(found) == {"1.jpg": ("a", ""), "2.jpg": ("b", "")}
    assert "1 row repeats" in found.notes[0]


def test_absolute_paths_and_paths_that_leave(tree: Tree, tmp_path: Path):
    root = tree("1.jpg")
    other = tree("2.jpg", folder="other")
    found = find(table(root, f"path\n1.jpg\n../other/2.jpg\n{other / '2.jpg'}\n"))
    assert found.root == str(tmp_path)
    assert list(rows(found)) == ["other/2.jpg", "photos/1.jpg"]
    inside = find(table(root, f"path\n{root / '1.jpg'}\n"))
    assert (inside.root, list(rows(inside))) == (str(root), ["1.jpg"])


def test_several_drives_on_windows(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    def commonpath(_: object) -> str:
        raise ValueError("Paths don't have the same drive")

    root = tree("1.jpg")
    monkeypatch.setattr(tables.os.path, "commonpath", commonpath)
    with pytest.raises(InputError, match="several drives"):
        find(table(root, "path\n../x.jpg\n"))


def test_missing_files_stay_as_samples(tree: Tree):
    found = find(table(tree("1.jpg"), "path,label\n1.jpg,a\ngone.jpg,b\n"))
    assert [(s.path, s.label, s.fault) for s in found.samples] == [
        ("1.jpg", "a", None),
        ("gone.jpg", "b", "no such file"),
    ]
    lost = find(table(tree("1.jpg"), "path,label\nx/1.jpg,a\n"))
    assert "wrong --root?" in lost.notes[-1]


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_broken_link(tree: Tree):
    root = tree("1.jpg")
    (root / "2.jpg").symlink_to(root / "gone")
    assert find(table(root, "path\n1.jpg\n2.jpg\n")).samples[1].fault == "broken link"


def test_paths_in_another_case(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    """macOS and Windows open IMG.jpg for img.jpg; the listing alone would call it missing."""
    root = tree("img.jpg")
    monkeypatch.setattr(
        lookup.os.path, "lexists", lambda path: path.lower() == str(root / "img.jpg")
    )
    (sample,) = find(table(root, "path\nIMG.jpg\n")).samples
    assert sample.fault is None


def test_stored_paths_are_read_back(tree: Tree):
    """Feature files and predictions write 50%25.jpg for 50%.jpg."""
    root = tree("50%.jpg")
    assert list(rows(find(table(root, "path\n50%25.jpg\n")))) == ["50%25.jpg"]
    assert find(table(root, "path\n50%25.jpg\n")).samples[0].fault is None


def test_numbers_that_are_ids_stay_text(tree: Tree):
    root = tree("1.jpg", "2.jpg")
    text = "path,big,exp,plus,word\n1.jpg,90071992547409931,1e3,+5,nan\n2.jpg,2,0.5,5,1\n"
    meta = find(table(root, text)).samples[0].meta
    assert meta == {"big": "90071992547409931", "exp": 1000.0, "plus": "+5", "word": "nan"}


def test_data_frames(tree: Tree):
    pd = pytest.importorskip("pandas")
    root = tree("1.jpg", "2.jpg", "3.jpg")
    frame = pd.DataFrame(
        {
            "path": [root / "3.jpg", str(root / "1.jpg"), str(root / "2.jpg")],
            "label": [1, None, 3],
            "weight": [0.5, 2.0, None],
            "who": pd.array(["NA", None, "x"], dtype="string"),
        },
        index=[7, 7, 9],
    )
    found = find(frame, root=root)
    assert {s.path: s.label for s in found.samples} == {"1.jpg": None, "2.jpg": "3", "3.jpg": "1"}
    assert [s.meta["who"] for s in found.samples] == ["", "x", "NA"]
    assert found.samples[2].meta["weight"] == 0.5
    assert (found.name, list(found.order)) == ("table", [1, 2, 0])
    with pytest.raises(InputError, match="two labels") as caught:
        find(pd.DataFrame({"path": ["a.jpg", "a.jpg"], "label": ["x", "y"]}), root=root)
    assert caught.value.where == "DataFrame, rows 0, 1"


def test_parquet(tree: Tree):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    root = tree("1.jpg", "2.jpg")
    columns = {"path": ["1.jpg", "2.jpg"], "label": ["NA", None], "n": [3, None]}
    pq.write_table(pa.table(columns), root / "t.parquet")
    found = find(root / "t.parquet")
    assert [s.label for s in found.samples] == ["NA", None]
    assert found.samples[0].meta["n"] == 3.0
    (root / "bad.parquet").write_bytes(b"PAR1 this is none")
    with pytest.raises(InputError, match="cannot be read"):
        find(root / "bad.parquet")


def test_parquet_without_its_package(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    from bottleneck_probe.errors import MissingExtraError

    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    root = tree("1.jpg", "t.parquet")
    with pytest.raises(MissingExtraError, match=r"pip install 'bottleneck-probe\[parquet\]'"):
        find(root / "t.parquet")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6), st.sampled_from(",;\t"))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, values: list, mark: str):
    import csv
    import io

    file = io.StringIO(newline="")
    csv.writer(file, delimiter=mark).writerows([("path", "label"), *values])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(file.getvalue().encode())
    assert [tuple(row) for row in read_table(str(path)).rows] == values


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_table_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(b"path,label\n" + data)
    try:
        result = read_table(str(path))
    except InputError:
        return  # said in words; any other exception fails the test
    assert all(len(row) == 2 for row in result.rows)


def test_a_fault_at_the_end_of_a_long_table_is_told(tree: Tree):
    # How long that takes is measured by `python tests/faults/run.py tables`.
    root = tree("1.jpg")
    text = "path,label\n" + "".join(f"{i}.jpg,a\n" for i in range(100_000)) + "1.jpg,b\n"
    with pytest.raises(InputError, match="two labels"):
        find(table(root, text))


def test_spaces_around_paths(tree: Tree):
    root = tree("1.jpg", "2.jpg", " 3.jpg", "4.jpg", "img/0013.jpg")
    text = "path,label\n1.jpg ,a\n  2.jpg,b\n 3.jpg,c\n4.jpg,d\ngone.jpg ,e\nimg/0013 ,f\n"
    found = find(table(root, text))
    assert {s.path: (s.label, s.fault) for s in found.samples} == {
        " 3.jpg": ("c", None),  # a file that is really called so
        "1.jpg": ("a", None),
        "2.jpg": ("b", None),
        "4.jpg": ("d", None),
        "gone.jpg": ("e", "no such file"),
        "img/0013.jpg": ("f", None),
    }
    (note,) = found.notes
    assert "spaces around the path in 4 of 6 rows of the column path" in note
    with pytest.raises(InputError, match="without a value"):
        find(table(root, "path,label\n1.jpg,a\n  ,b\n"))


def test_spaces_around_ids_of_a_column_that_has_to_be_found(tree: Tree):
    found = find(table(tree("a/x1.jpg", "a/x2.jpg"), "id,label\nx1 ,a\n x2,b\n"))
    assert rows(found) == {"a/x1.jpg": ("a", ""), "a/x2.jpg": ("b", "")}


def test_spaces_around_splits_and_labels(tree: Tree):
    root = tree("1.jpg", "2.jpg", "3.jpg", "4.jpg")
    text = "path,label,split\n1.jpg,ants, Train \n2.jpg,ants ,test \n3.jpg,  ,\n4.jpg,bees,\n"
    found = find(table(root, text))
    assert [s.label for s in found.samples] == ["ants", "ants ", None, "bees"]
    assert [s.split for s in found.samples] == ["train", "test", "", ""]
    (note,) = found.notes
    assert note.endswith("kept apart: 'ants', 'ants '.")


@pytest.mark.parametrize("names", ["Path,LABEL,Split", "PATH,Label,SPLIT"])
def test_column_names_in_any_case(tree: Tree, names: str):
    root = tree("1.jpg")
    found = find(table(root, f"{names},age\n1.jpg,ants,val,3\n"))
    assert (rows(found), found.notes) == ({"1.jpg": ("ants", "val")}, [])
    assert found.samples[0].meta == {"age": 3.0}


def test_the_exact_column_name_comes_first(tree: Tree):
    root = tree("1.jpg", "2.jpg")
    found = find(table(root, "Path,path,Label,label,class\n1.jpg,2.jpg,no,yes,x\n"))
    assert rows(found) == {"2.jpg": ("yes", "")}
    with pytest.raises(InputError, match="several columns are called label: Label, LABEL"):
        find(table(root, "path,Label,LABEL\n1.jpg,a,b\n"))
    assert find(table(root, "path,class\n1.jpg,a\n")).samples[0].label is None


def test_addresses_are_the_fault_of_their_rows_without_fsspec(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
):
    door.filesystem.cache_clear()
    monkeypatch.setitem(sys.modules, "fsspec", None)
    root = tree("1.jpg")
    text = "path,label\n1.jpg,a\nhttps://x.org/y.jpg,b\ngs://bucket/z.jpg,c\n"
    found = find(table(root, text))
    assert found.root == str(root)
    needed = "needs the package fsspec, which is not installed"
    line = "pip install 'bottleneck-probe[remote]'"
    assert {s.path: (s.label, s.fault) for s in found.samples} == {
        "1.jpg": ("a", None),
        "gs://bucket/z.jpg": ("c", f"reading gs:// {needed}: {line}"),
        "https://x.org/y.jpg": ("b", f"reading https:// {needed}: {line}"),
    }
    only = find(table(root, "path\nhttp://x.org/y.jpg\n"))
    assert not any("wrong --root" in note for note in only.notes)


def test_rows_that_repeat_have_an_entry_each(tree: Tree):
    root = tree("1.jpg", "2.jpg")
    found = find(table(root, "path,label\n2.jpg,b\n1.jpg,a\n./2.jpg,b\n2.jpg,b\n"))
    assert [found.samples[i].path for i in found.entries] == ["2.jpg", "1.jpg", "2.jpg", "2.jpg"]
    assert len(found.samples) == 2


def test_a_table_that_is_missing(tree: Tree):
    root = tree("labels.csv")
    with pytest.raises(InputError, match=r"did you mean .*labels\.csv"):
        find(root / "lables.csv")
    with pytest.raises(InputError, match="no such file"):
        tabular.read_table(str(root / "gone.csv"))


def test_an_error_in_a_table_comes_before_any_network(tree: Tree):
    """The weights of a backbone may take minutes to come; a typing error must not wait for them."""
    import subprocess
    import sys

    root = tree("1.jpg")
    code = (
        "import atexit, sys; from bottleneck_probe.cli.main import bottleneck\n"
        "heavy = {'torch', 'timm', 'torchvision', 'onnxruntime', 'openvino', 'sklearn'}\n"
        "atexit.register(lambda: print('loaded:', heavy & set(sys.modules)))\n"
        "bottleneck(sys.argv[1:])"
    )
    arguments = ["extract", str(table(root, "path,label\n1.jpg,a\n1.jpg,b\n"))]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "loaded: set()\n"
    assert "one path with two labels" in done.stderr
    assert "lines 2, 3" in done.stderr


def test_a_parquet_file_that_declares_rows_without_end(tree: Tree, tmp_path: Path):
    """Equal values are stored as one and a count: a few KB made a list that filled the memory."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    root = tree("1.jpg")
    chunk = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), ["1.jpg"])
    many = pa.table({"path": pa.chunked_array([chunk] * 20)})
    pq.write_table(many, root / "t.parquet", write_statistics=False)
    assert (root / "t.parquet").stat().st_size < 20_000
    with pytest.raises(InputError, match="declares 2,000,000 rows in"):
        find(root / "t.parquet")


def test_parquet_values_that_are_no_text_are_an_error(tree: Tree):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    root = tree("1.jpg")
    bad = pa.array([b"caf\xe9.jpg"]).view(pa.string())
    pq.write_table(pa.table({"path": bad}), root / "t.parquet")
    with pytest.raises(InputError, match=r"cannot be read: .*utf-8"):
        find(root / "t.parquet")
    late = pa.array([2**60], pa.timestamp("us"))
    pq.write_table(pa.table({"path": ["1.jpg"], "when": late}), root / "t.parquet")
    with pytest.raises(InputError, match="cannot be read"):
        find(root / "t.parquet")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFO")
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_that_is_a_pipe_is_not_waited_for(tree: Tree, suffix: str):
    pytest.importorskip("pyarrow")
    root = tree("1.jpg")
    os.mkfifo(root / f"t{suffix}")
    with pytest.raises(InputError, match="not a regular file"):
        find(root / f"t{suffix}")


def test_no_cell_can_break_a_row_of_csv():
    """Python before 3.13 leaves a carriage return outside of quotes where rows end with a line feed."""
    import csv
    import io

    from bottleneck_probe.cache.export import csv_writer

    rows = [["a\rb", "c\nd", 'e"f', ""], ["g,h", "\r\n", " i ", "j"]]
    text = io.StringIO()
    csv_writer(text).writerows(rows)
    assert text.getvalue().endswith("j\n")
    assert list(csv.reader(io.StringIO(text.getvalue(), newline=""), strict=True)) == rows


def test_the_fuzz_target_runs(tmp_path: Path):
    """Its seeds: a table of each kind, and labels for a folder."""
    import importlib.util

    place = Path(__file__).parents[1] / "fuzz" / "targets" / "tables.py"
    spec = importlib.util.spec_from_file_location("bottleneck_fuzz_tables", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for seed in (
        b"",
        b"\0path\nants/1.png\n",
        b"\4path,label\n2,a\n",
        b"\3PAR1",
        b"\2id\tc\n1\t0\n",
    ):
        module.target(seed)
