"""A subset has the rows that were asked for, with their features, and the labels of the table."""

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache.format import write
from bottleneck_probe.cache.subsetting import subset
from bottleneck_probe.cache.verifying import verify
from bottleneck_probe.reporter import Silent

pytestmark = pytest.mark.usefixtures("opened_here")


def test_rows_are_kept_by_any_spelling_of_their_path(layered, tmp_path):
    path, values, _ = layered(100)
    reporter = Silent()
    wanted = ["ants/00007.jpg", "/data/ants/ants/00003.jpg", "./ants/00050.jpg", "ants/none.jpg"]
    result = subset(path, tmp_path / "few.h5", paths=wanted, reporter=reporter)
    made = result.features
    assert made.paths.tolist() == [f"ants/{i:05}.jpg" for i in (3, 7, 50)]
    for name in made.outputs:
        np.testing.assert_array_equal(made.output(name).features[:], values[name][[3, 7, 50]])
    assert (result.of, result.not_found) == (100, ["ants/none.jpg"])
    assert reporter.warnings == ["1 of 4 paths name no row: ants/none.jpg"]
    assert made.quarantine == []
    assert verify(result.output).ok
    assert made.labels.tolist() == [bp.open(path).labels[i] for i in (3, 7, 50)]


def test_nothing_left_is_an_error_and_no_file(written, tmp_path):
    path, _, _ = written(10)
    with pytest.raises(bp.InputError, match="none of the 1 paths"):
        subset(path, tmp_path / "few.h5", paths=["x.jpg"])
    with pytest.raises(bp.InputError, match="no row is of the split test"):
        subset(path, tmp_path / "few.h5", splits=["test"])
    with pytest.raises(bp.CacheError, match="exists"):
        subset(path, path, splits=["train"])
    assert not (tmp_path / "few.h5").exists()


def test_a_split_keeps_its_rows_and_the_classes_that_they_have(written, tmp_path):
    path, X, rows = written(60)
    made = subset(path, tmp_path / "few.h5", splits=["train", "val"]).features
    kept = [i for i in range(60) if rows.splits[i]]
    np.testing.assert_array_equal(made.features[:], X[kept])
    only = subset(path, tmp_path / "one.h5", paths=[rows.paths[int(np.argmax(rows.labels == 1))]])
    assert only.features.classes == ["bees"]
    assert only.features.y.tolist() == [0]


def test_labels_of_a_table_take_the_place_of_all_that_the_file_says(written, tmp_path):
    path, X, rows = written(6)
    lines = ["path,label,split,note"]
    lines += [f"ants/{i:05}.jpg,{'wasp' if i % 2 else 'bee'},test,n{i}" for i in range(4)]
    lines += ["ants/99999.jpg,fly,test,"]
    (tmp_path / "new.csv").write_text("\n".join(lines) + "\n")
    reporter = Silent()
    result = subset(path, tmp_path / "new.h5", labels=tmp_path / "new.csv", reporter=reporter)
    made = result.features
    assert made.labels.tolist() == ["bee", "wasp", "bee", "wasp", None, None]
    assert made.classes == ["bee", "wasp"]
    assert list(made.splits) == ["test"] * 4 + ["", ""]
    assert made.meta["note"].tolist() == ["n0", "n1", "n2", "n3", "", ""]
    assert list(made.meta) == ["note"]
    assert result.unlabelled == 2
    np.testing.assert_array_equal(made.features[:], X)
    np.testing.assert_array_equal(made.keys, rows.keys)
    assert any("4 of 6 images have a row; 1 rows name no image" in note for note in reporter.notes)
    (tmp_path / "none.csv").write_text("path,label\nx.jpg,a\n")
    with pytest.raises(bp.InputError, match="none of the table's 1 rows"):
        subset(path, tmp_path / "x.h5", labels=tmp_path / "none.csv")


def test_labels_and_a_list_and_a_split_of_the_table_go_together(written, tmp_path):
    path, X, _ = written(6)
    table = "id,kind,part\n" + "".join(
        f"{i:05},{i},{'train' if i < 3 else 'val'}\n" for i in range(6)
    )
    (tmp_path / "new.csv").write_text(table)
    made = subset(
        path,
        tmp_path / "new.h5",
        labels=tmp_path / "new.csv",
        path_column="id",
        label_column=["kind"],
        split_column="part",
        splits=["val"],
        paths=["ants/00002.jpg", "ants/00004.jpg"],
        task="classification",
    ).features
    assert made.paths.tolist() == ["ants/00004.jpg"]
    assert made.labels.tolist() == ["4"]
    np.testing.assert_array_equal(made.features[:], X[[4]])


@pytest.mark.parametrize("task", ["auto", "multilabel"])
def test_several_labels_become_targets(written, tmp_path, task):
    path, _, _ = written(3)
    (tmp_path / "m.csv").write_text("path,label\nants/00000.jpg,car|person\nants/00001.jpg,car|\n")
    made = subset(path, tmp_path / "m.h5", labels=tmp_path / "m.csv", task=task).features
    assert made.task == "multilabel"
    assert made.labels.tolist() == ["car|person", "car", None]
    (tmp_path / "c.csv").write_text("path,car,person\nants/00000.jpg,1,1\nants/00001.jpg,1,0\n")
    made = subset(
        path, tmp_path / "c.h5", labels=tmp_path / "c.csv", label_column=["car", "person"]
    ).features
    assert made.labels.tolist() == ["car|person", "car", None]


def test_numbers_become_a_target(written, tmp_path):
    path, _, _ = written(3)
    (tmp_path / "n.csv").write_text("path,age\nants/00000.jpg,1.5\nants/00002.jpg,3\n")
    made = subset(
        path, tmp_path / "n.h5", labels=tmp_path / "n.csv", label_column=["age"], task="regression"
    ).features
    assert (made.task, made.classes) == ("regression", ["age"])
    np.testing.assert_array_equal(made.targets[:, 0], [1.5, np.nan, 3])


def test_every_view_of_an_image_has_its_label(tmp_path, header, rows, features):
    columns = rows(4)
    columns.paths = ["a.jpg", "a.jpg", "b.jpg", "b.jpg"]
    columns.view = np.array([0, 1, 0, 1], np.int32)
    columns.keys = np.array([[1] * 32, [1] * 32, [2] * 32, [2] * 32], np.uint8)
    write(tmp_path / "x.h5", header(), columns, [features(4)])
    (tmp_path / "t.csv").write_text("path,label,w\na.jpg,x,1\nb.jpg,y,2\n")
    made = subset(tmp_path / "x.h5", f"{tmp_path}/new/", labels=tmp_path / "t.csv").features
    assert made.labels.tolist() == ["x", "x", "y", "y"]
    assert made.meta["w"].tolist() == [1, 1, 2, 2]
    one = subset(tmp_path / "x.h5", tmp_path / "one.h5", paths=["b.jpg"]).features
    assert one.paths.tolist() == ["b.jpg", "b.jpg"]
