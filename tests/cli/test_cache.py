"""`bottleneck verify` and `bottleneck cache ...` as a user types them."""

import json
import subprocess
import sys

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from bottleneck_probe.cache.features import Features
from bottleneck_probe.cache.lock import writing
from bottleneck_probe.cache.shards import Shards
from bottleneck_probe.cli.main import bottleneck
from click.testing import CliRunner

pytestmark = pytest.mark.usefixtures("opened_here", "examined_here")


def run(*arguments, stdin=None):
    return CliRunner().invoke(bottleneck, [str(a) for a in arguments], input=stdin)


def reply(result, code=0) -> dict:
    assert result.exit_code == code, result.output
    data = json.loads(result.stdout)
    assert data["exit_code"] == code
    return data


def make(path, n=200, *, shift=0.0, labels=None, first=0):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n + first, 8))[first:] + shift
    own = Features.from_arrays(
        X,
        labels=labels or [("ant", "bee")[i % 2] for i in range(n)],
        ids=[f"{i:04}.jpg" for i in range(first, first + n)],
        splits=[("train", "val")[i % 5 == 0] for i in range(n)],
    )
    return own.save(path)


def damage(path, row=70):
    with h5py.File(path) as h5:
        at = h5["features"].id.get_offset() + row * 8 * 4
    data = bytearray(path.read_bytes())
    data[at] ^= 16
    path.write_bytes(data)


@pytest.fixture
def file(tmp_path):
    return make(tmp_path / "x.h5")


def test_verify_says_good_or_lists_what_is_not(file):
    result = run("verify", file)
    assert result.exit_code == 0
    assert "everything is as it was written (200 rows" in result.stdout
    data = reply(run("verify", file, "--json"))
    assert (data["command"], data["ok"], data["vouched"], data["problems"]) == (
        "verify",
        True,
        True,
        [],
    )
    damage(file)
    result = run("verify", file)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["features", "64-127", "differ", "from", "their", "checksum"]
    assert "1 problem" in lines[2]
    data = reply(run("verify", file, "--json"), 1)
    assert data["error"] is None
    assert data["problems"] == [
        {
            "dataset": "features",
            "rows": [64, 127],
            "path": None,
            "what": "differ from their checksum",
        }
    ]


def test_verify_of_what_is_not_there_or_not_comparable_is_an_error(tmp_path, file):
    data = reply(run("verify", tmp_path / "none.h5", "--json"), 1)
    assert "does not exist" in data["error"]["what"]
    assert "--root" in reply(run("verify", file, "--images", "--json"), 1)["error"]["next"]
    assert run("verify").exit_code == 2


def test_a_path_that_would_write_on_the_terminal_is_escaped(tmp_path):
    own = Features.from_arrays(np.eye(3), ids=["a", "b\x1b[2J\nerror: fake", "c"])
    own.rows.quarantine = [("b\x1b[2J\nerror: fake", "empty")]
    result = run("verify", own.save(tmp_path / "x.h5"))
    assert result.exit_code == 1
    assert "\x1b" not in result.stdout
    assert not any(line.startswith("error:") for line in result.stdout.splitlines())


def test_repair_saves_and_lists(file, tmp_path):
    damage(file)
    result = run("cache", "repair", file, "-o", tmp_path / "new.h5")
    assert result.exit_code == 0, result.output
    assert "136 rows saved, 64 lost" in result.stdout
    assert "... and 44 more" in result.stdout
    assert "computes what is missing, and no more" in result.stdout
    assert run("verify", tmp_path / "new.h5").exit_code == 0
    data = reply(run("cache", "repair", file, "-o", tmp_path / "new.h5", "--force", "--json"))
    assert (data["rows"], len(data["lost"])) == (136, 64)
    assert data["lost"][0] == {"row": 64, "path": "0064.jpg", "why": "features damaged"}
    again = reply(run("cache", "repair", file, "-o", tmp_path / "new.h5", "--json"), 1)
    assert "--force" in again["error"]["next"]


def test_merge_counts_and_takes_directories(tmp_path):
    a, b = make(tmp_path / "a.h5", 100), make(f"{tmp_path}/b/", 100, first=80)
    del b
    result = run("cache", "merge", a, f"{tmp_path}/b/", "-o", tmp_path / "all.h5")
    assert result.exit_code == 0, result.output
    assert "180 rows x 8; 20 rows stood in several files" in result.stdout
    data = reply(run("cache", "merge", a, f"{tmp_path}/b/", "-o", f"{tmp_path}/all/", "--json"))
    assert (data["features"], data["repeated"]) == ([180, 8], 20)
    assert len(bp.open(tmp_path / "all")) == 180


def test_diff_ends_like_diff(file, tmp_path):
    same = make(tmp_path / "same.h5")
    result = run("cache", "diff", file, same)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "no difference")
    other = make(tmp_path / "other.h5", 150, shift=1e-4, labels=["ant"] * 150)
    result = run("cache", "diff", file, other)
    assert result.exit_code == 1
    assert "only in" in result.stdout
    assert "same path, another image (150)" in result.stdout
    assert "label differs (75)" in result.stdout
    data = reply(run("cache", "diff", file, other, "--json"), 1)
    assert (data["same"], data["error"], len(data["only_a"])) == (False, None, 50)
    error = reply(run("cache", "diff", file, tmp_path / "none.h5", "--json"), 1)["error"]
    assert "does not exist" in error["what"]


def test_subset_by_list_by_split_and_relabelled(file, tmp_path):
    listed = "0003.jpg\r\n\n0150.jpg\nnone.jpg\n"
    result = run("cache", "subset", file, "--paths", "-", "-o", tmp_path / "a.h5", stdin=listed)
    assert result.exit_code == 0, result.output
    assert "2 of 200 rows, 2 classes" in result.stdout
    assert "1 of 3 paths name no row: none.jpg" in result.stderr
    (tmp_path / "list.txt").write_text(listed)
    command = ("cache", "subset", file, "--paths", tmp_path / "list.txt", "--json")
    data = reply(run(*command, "-o", tmp_path / "b.h5"))
    assert (data["rows"], data["of"], data["not_found"]) == (2, 200, ["none.jpg"])
    data = reply(run("cache", "subset", file, "--split", "val", "-o", tmp_path / "v.h5", "--json"))
    assert data["rows"] == 40
    (tmp_path / "t.csv").write_text("path,label\n0001.jpg,wasp\n0002.jpg,fly\n")
    command = ("cache", "subset", file, "--labels", tmp_path / "t.csv", "--json")
    data = reply(run(*command, "-o", tmp_path / "t.h5"))
    assert (data["rows"], data["unlabelled"], data["classes"]) == (200, 198, ["fly", "wasp"])
    assert run("cache", "subset", file, "-o", tmp_path / "n.h5").exit_code == 2


def test_where_lists_feature_files_and_what_runs_have_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = reply(run("cache", "where", "--json"))
    assert data["features"] == []
    assert "no feature files" in run("cache", "where").stdout
    make(tmp_path / "cache" / "a.h5")
    make("cache/b/", 10)
    (tmp_path / "cache" / "README.md").write_text("x" * 1000)
    (tmp_path / "cache" / "gone.h5.parts").mkdir()
    (tmp_path / "cache" / "gone.h5.parts" / "x.h5").write_bytes(b"x" * 77)
    data = reply(run("cache", "where", "--json"))
    sizes = {each["path"]: (each["bytes"], each["parts_bytes"]) for each in data["features"]}
    assert list(sizes) == ["cache/a.h5", "cache/b", "cache/gone.h5"]
    assert sizes["cache/a.h5"] == ((tmp_path / "cache" / "a.h5").stat().st_size, 0)
    assert sizes["cache/gone.h5"] == (0, 77)
    assert sizes["cache/b"][0] > 10 * 8 * 4
    shown = run("cache", "where").stdout
    assert "3 feature files" in shown
    assert "gone.h5" in shown


def test_clear_removes_what_is_named_and_nothing_else(tmp_path, file, monkeypatch):
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.onnx").write_bytes(b"x")
    shards = Shards(tmp_path / "x.h5.parts", "0" * 64)
    shards.append(np.zeros((1, 32), np.uint8), np.zeros((1, 4), np.float32))
    shards.seal()
    other = make(tmp_path / "other.h5", 5)
    (tmp_path / "photo.jpg").write_bytes(b"no features")
    for wrong in (tmp_path / "photo.jpg", tmp_path, tmp_path / "none.h5"):
        result = run("cache", "clear", file, wrong)
        assert result.exit_code == 1
        assert file.exists()
        assert wrong == tmp_path / "none.h5" or wrong.exists()
    with writing(file):
        assert run("cache", "clear", file).exit_code == 1
    assert reply(run("cache", "clear", file, "--parts", "--json"))["files"] == 1
    assert file.exists()
    assert not (tmp_path / "x.h5.parts").exists()
    size = file.stat().st_size
    assert reply(run("cache", "clear", file, "--json"))["bytes"] == size
    assert not file.exists()
    assert not list(tmp_path.glob(".x.h5*"))
    assert other.exists()
    assert (tmp_path / "own" / "a.onnx").exists()
    assert run("cache", "clear").exit_code == 0
    assert not (tmp_path / "own" / "a.onnx").exists()
    assert other.exists()
    assert run("cache", "clear", "--parts").exit_code == 2
    folder = make(f"{tmp_path}/dir/", 5)
    (tmp_path / "dir" / "mine.txt").write_text("keep")
    assert run("cache", "clear", folder).exit_code == 1
    (tmp_path / "dir" / "mine.txt").unlink()
    assert run("cache", "clear", folder).exit_code == 0
    assert not (tmp_path / "dir").exists()


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from click.testing import CliRunner; from bottleneck_probe.cli.main import "
        "bottleneck; CliRunner().invoke(bottleneck, ['cache', '--help']); "
        "print({'h5py', 'numpy', 'torch', 'PIL', 'pandas', 'fsspec'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_the_parts_of_a_first_run_that_was_killed_can_be_looked_at(tmp_path):
    shards = Shards(tmp_path / "many.parts", "ab" * 32)
    shards.append(np.zeros((7, 32), np.uint8), np.ones((7, 4), np.float32))
    shards.seal()
    result = run("verify", f"{tmp_path}/many/")
    assert result.exit_code == 1
    assert "1 finished shard, 7 rows" in result.stdout
    result = run("info", f"{tmp_path}/many/")
    assert result.exit_code == 1
    assert "many.parts" in result.stderr
    assert "goes on with it" in result.stderr


def test_verify_names_what_another_program_added(file):
    with h5py.File(file, "a") as h5:
        h5["mine"] = np.arange(3)
    result = run("verify", file)
    assert result.exit_code == 0
    assert "everything that this program wrote is as it was written" in result.stdout
    assert "nothing vouches for mine" in result.stdout
    assert reply(run("verify", file, "--json"))["foreign"] == ["mine"]
