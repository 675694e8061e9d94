"""What was extracted from other machines is found there again by `verify`."""

import pytest
from bottleneck_probe.cache.verifying import verify
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.reporter import Silent
from common import tar_of


@pytest.fixture
def extract(calls, tmp_path):
    def extract_(images):
        stated = {"backbone": "stub", "engine": "eager", "batch_size": 1}
        return run(
            find_images(images), output=tmp_path / "f.h5", reporter=Silent(), **stated
        ).output

    return extract_


def png(stub, tmp_path, number):
    return stub.paint(tmp_path / "one" / f"{number}.png", number).read_bytes()


@pytest.mark.parametrize("store", ["bucket", "web"])
def test_tars_are_read_where_they_lie(store, request, stub, tmp_path, extract):
    place = request.getfixturevalue(store)
    base = f"{place}/t" if store == "bucket" else f"{place.address}/t"

    def put(name, numbers):
        data = tar_of((f"{n}.png", png(stub, tmp_path, n)) for n in numbers)
        if store == "bucket":
            place.fs.pipe_file(f"{base}/{name}", data)
        else:
            place.files[f"/t/{name}"] = data

    put("0.tar", [0, 1, 2])
    put("more/1.tar", [3, 4])
    file = extract([f"{base}/0.tar", f"{base}/more/1.tar"])
    report = verify(file, images=True, recompute=5)
    assert report.ok
    assert report.images["same"] == report.recomputed["rows"] == 5
    put("more/1.tar", [3])
    assert verify(file, images=True).images == {
        "same": 4,
        "changed": 0,
        "missing": 1,
        "unreadable": 0,
        "new": 0,
    }


def test_a_tar_that_is_gone_is_missing_and_the_others_are_compared(bucket, stub, tmp_path, extract):
    for name in ("0.tar", "more/1.tar"):
        data = tar_of([(f"{len(name)}.png", png(stub, tmp_path, len(name)))])
        bucket.fs.pipe_file(f"{bucket}/t/{name}", data)
    file = extract([f"{bucket}/t/0.tar", f"{bucket}/t/more/1.tar"])
    bucket.fs.rm_file(f"{bucket}/t/0.tar")
    counts = verify(file, images=True).images
    assert (counts["same"], counts["missing"]) == (1, 1)


def test_stored_urls_are_opened_and_no_folder_is_listed(web, stub, tmp_path, extract, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        web.files[f"/{number}.png"] = png(stub, tmp_path, number)
    table = tmp_path / "tables" / "t.csv"
    table.parent.mkdir()
    stub.paint(table.parent / "beside.png", 9)
    table.write_text("path\n" + "".join(f"{web.address}/{n}.png\n" for n in range(3)))
    file = extract(str(table))
    report = verify(file, images=True, recompute=3)
    assert report.ok
    assert report.images == {"same": 3, "changed": 0, "missing": 0, "unreadable": 0, "new": 0}
    assert report.recomputed["rows"] == 3
    web.files["/1.png"] = png(stub, tmp_path, 7)
    del web.files["/2.png"]
    counts = verify(file, images=True).images
    assert (counts["same"], counts["changed"], counts["missing"]) == (1, 1, 1)


def test_objects_of_a_bucket_are_compared(bucket, stub, tmp_path, extract):
    for number, name in enumerate(["a/0.png", "b//1.png"]):
        bucket.fs.pipe_file(f"{bucket}/p/{name}", png(stub, tmp_path, number))
    file = extract(f"{bucket}/p/")
    assert verify(file, images=True).images["same"] == 2
    bucket.fs.rm_file(f"{bucket}/p/b//1.png")
    bucket.fs.pipe_file(f"{bucket}/p/c/2.png", b"x")
    counts = verify(file, images=True).images
    assert (counts["same"], counts["missing"], counts["new"]) == (1, 1, 1)
