"""The experiments in their small form; ``python tests/faults/run.py NAME --full`` runs them in full."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


def load():
    spec = importlib.util.spec_from_file_location("bottleneck_faults", RUN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


faults = load()


@pytest.mark.skipif(os.name != "posix", reason="signals and fork of POSIX")
@pytest.mark.parametrize("name", ["kill", "shim", "lose", "race", "signals", "full_disk", "soak"])
def test_it_holds(name, tmp_path):
    result = faults.small(name, tmp_path)
    assert result["held"], result


def test_every_experiment_has_two_sizes_and_says_what_it_is():
    for name in faults.names():
        module = faults.experiment(name)
        assert module.FULL.keys() == module.SMALL.keys(), name
        assert module.__doc__, name


def test_a_result_is_kept_and_not_measured_again(tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    (tmp_path / "run.py").write_bytes(RUN.read_bytes())
    (folder / "made_up.py").write_text(
        '"""One that counts its runs."""\n'
        "from pathlib import Path\n"
        'FULL, SMALL = {"n": 2}, {"n": 1}\n'
        "def run(folder, tell, *, n):\n"
        f"    with open({str(tmp_path / 'runs')!r}, 'a') as file:\n"
        "        file.write('x')\n"
        "    return {'held': n < 2, 'told': f'{n} of a | kind'}\n"
    )

    def run(*arguments):
        command = [sys.executable, "run.py", "made_up", "--folder", "kept", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    first = run()
    assert first.returncode == 0, first.stderr
    assert "| made_up | n 1 | yes | 1 of a \\| kind |" in first.stdout
    assert "--again" in run().stdout
    assert (tmp_path / "runs").read_text() == "x"
    assert run("--full").returncode == 1
    lines = (tmp_path / "kept" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["sizes"]["n"] for line in lines] == [1, 2]
