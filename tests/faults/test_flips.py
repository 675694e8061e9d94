"""The small form of the experiment `flips`; and that it sees what it is for."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harness import hurt
from run import small


def test_damaged_files_are_refused_or_right(tmp_path):
    found = small("flips", tmp_path)
    assert found["held"], found["faults"]
    assert found["counts"]["refused"] > 90
    assert found["counts"]["right"] > 0


def test_contents_differ_where_one_value_does(tmp_path):
    hurt.feature_file(tmp_path / "a.h5")
    hurt.feature_file(tmp_path / "b.h5")
    a, b = hurt.content(tmp_path / "a.h5"), hurt.content(tmp_path / "b.h5")
    assert hurt.equal(a, b)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    for place, value in enumerate(a):
        if hasattr(value, "flat") and value.size:
            changed = [*a]
            changed[place] = value.copy()
            changed[place].flat[-1] += 1
            assert not hurt.equal(changed, b)
