"""The docs say what is so: commands and options exist, links lead somewhere, code runs."""

import inspect
import re
import shlex
from functools import cache
from pathlib import Path

import click
import numpy as np
import pytest
from bottleneck_probe.cli.main import bottleneck
from PIL import Image

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
NAMES = [page.name for page in PAGES]
# What the shell takes for itself.
_SHELL = re.compile(r"\s*(?:\||>|<|&&|\|\||;|#).*$")


def _blocks(text: str, *languages: str) -> list[tuple[str, str]]:
    """Fenced blocks as (info string, content)."""
    found = re.findall(r"^```([^\n]*)\n(.*?)^```", text, re.M | re.S)
    return [
        (info.strip(), body)
        for info, body in found
        if info.split()[:1] and info.split()[0] in languages
    ]


def _lines(text: str) -> list[str]:
    """Every command line that begins with `bottleneck`, continuation lines joined."""
    lines = []
    for _, body in _blocks(text, "console", "bash", "sh"):
        for line in body.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|\||\||;", line.strip().removeprefix("$ ")):
                if re.match(r"\s*bottleneck(\s|$)", part):
                    lines.append(_SHELL.sub("", part.strip()))
    return lines


def _parse(line: str) -> click.Context:
    """The context of the command that a line runs, its options parsed and checked, nothing run."""
    args = shlex.split(line)[1:]
    command, context = bottleneck, click.Context(bottleneck, info_name="bottleneck")
    while isinstance(command, click.Group):
        name = next((arg for arg in args if not arg.startswith("-")), None)
        if name is None:
            break
        found = command.get_command(context, name)
        assert found is not None, f"{line}: there is no command {name}"
        args = args[args.index(name) + 1 :]
        command = found
    return command.make_context(command.name, args, resilient_parsing=False)


@cache
def _commands() -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in bottleneck.commands.items():
        if isinstance(command, click.Group):
            found.update({f"{name} {below}": c for below, c in command.commands.items()})
        else:
            found[name] = command
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_line_is_one_that_the_command_takes(page):
    for line in _lines(page.read_text("utf-8")):
        try:
            _parse(line)
        except click.exceptions.Exit:  # --help and --version end here
            continue
        except click.UsageError as error:
            pytest.fail(f"{line}: {error.format_message()}")


def test_the_check_sees_command_lines_and_refuses_wrong_ones():
    text = "```console\n$ find . | bottleneck extract - -o a.h5 && bottleneck fit a.h5 > b\n```\n"
    assert _lines(text) == ["bottleneck extract - -o a.h5", "bottleneck fit a.h5"]
    assert sum(len(_lines(page.read_text("utf-8"))) for page in DOCS) >= 25
    for wrong in (
        "bottleneck fit a.h5 --colour red",
        "bottleneck fit",
        "bottleneck fit a --folds 1",
    ):
        with pytest.raises(click.UsageError):
            _parse(wrong)
    with pytest.raises(AssertionError, match="no command explode"):
        _parse("bottleneck explode a.h5")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_option_named_in_the_text_exists(page):
    known = {name for c in _commands().values() for p in c.params for name in p.opts}
    known |= {"--help", "--version"}
    # Those of other programs: pip's, tf2onnx's.
    known |= {"--no-index", "--find-links", "--saved-model"}
    # Those of tests/intervals_hold/experiment.py and tests/faults/run.py.
    known |= {"--full", "--folder", "--population", "--all-metrics", "--set", "--again"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text("utf-8")))
    assert named <= known


@pytest.mark.parametrize("name", sorted(_commands()))
def test_every_command_is_documented_and_its_help_has_an_example(name):
    assert any(
        f"bottleneck {name}" in page.read_text("utf-8") for page in [*DOCS, ROOT / "README.md"]
    )
    command = _commands()[name]
    text = f"{inspect.getdoc(command.callback) or command.help or ''}\n{command.epilog or ''}"
    assert len(text.split()) >= 5
    if len([p for p in command.params if isinstance(p, click.Argument)]):
        assert f"bottleneck {name}" in text


@pytest.mark.parametrize("name", sorted(_commands()))
def test_every_option_has_a_help_text_or_says_its_values(name):
    for parameter in _commands()[name].params:
        if isinstance(parameter, click.Option):
            spoken = (
                parameter.help or isinstance(parameter.type, click.Choice) or parameter.show_default
            )
            assert spoken, parameter.opts


def test_every_option_of_the_command_is_in_some_page():
    text = "\n".join(page.read_text("utf-8") for page in [*DOCS, ROOT / "README.md"])
    missing = {
        name
        for command in _commands().values()
        for parameter in command.params
        for name in parameter.opts
        if name.startswith("--") and not re.search(rf"{name}(?![\w-])", text)
    }
    # What these do is in their names, and in --help.
    assert missing <= {"--help", "--output", "--folder", "--verbose"}


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_within_the_repository_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.M)
            assert anchor in {_anchor(heading) for heading in headings}, target


def test_no_page_carries_a_machine_path():
    for page in PAGES:
        assert not re.search(
            r"(?<![\w.~])/(tmp|work|root|opt|home/(?!me\b))", page.read_text("utf-8")
        ), page


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The folders that the pages speak of, with three classes told apart by colour."""
    rng = np.random.default_rng(0)
    for folder, n in (("photos", 8), ("new", 3)):
        for channel, name in enumerate(("red", "green", "blue")):
            (tmp_path / folder / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 120, (48, 64, 3), np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(tmp_path / folder / name / f"{i:02d}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


WITH_CODE = [page for page in PAGES if _blocks(page.read_text("utf-8"), "python")]


@pytest.mark.parametrize("page", WITH_CODE, ids=[page.name for page in WITH_CODE])
def test_python_code_runs(page, photos, capsys):
    """All blocks of a page, one after the other, as a reader would type them."""
    names = {
        "list_of_images": [np.zeros((40, 60, 3), np.uint8)]
    }  # the README leaves it to its reader
    for info, code in _blocks(page.read_text("utf-8"), "python"):
        if "slow" in info.split():  # a simulation of minutes: here four draws of it
            assert "DRAWS, N = 400, 40" in code
            code = code.replace("DRAWS, N = 400, 40", "DRAWS, N = 4, 40")
        exec(compile(code, page.name, "exec"), names)
    if page.parent.name == "docs":
        assert capsys.readouterr().out.strip()
