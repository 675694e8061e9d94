"""What notebooks show is text in tables: no name of a file, class or column becomes HTML of its own."""

import ast
from html.parser import HTMLParser
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
import pytest

PACKAGE = Path(bp.__file__).parent
EVIL = [
    "<script>alert(1)</script>",
    '"><img src=http://stranger.org/x onerror=alert(1)>',
    "</table><style>*{display:none}</style>",
    "&lt;script&gt; 'quoted' \x1b[31m",
]
TAGS = {"b", "caption", "p", "table", "td", "th", "tr"}


class Shown(HTMLParser):
    """The elements of a piece of HTML, and its text as a browser shows it."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.text, self.elements = "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, attrs))

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.elements.append(("a comment", data))

    handle_decl = handle_pi = unknown_decl = handle_comment


@pytest.fixture(scope="module")
def shown():
    """Each object that a notebook shows, made of such names, by the class that shows it."""
    rng = np.random.default_rng(0)
    n = 60
    labels = [EVIL[i % 2 * 3] for i in range(n)]
    X = rng.normal(size=(n, 4)) + 5 * np.eye(4)[np.arange(n) % 2]
    labels[0] = EVIL[3]  # one that is doubted
    sets = [
        bp.Features.from_arrays(
            part,
            labels,
            ids=[f"{i}{EVIL[i % 4]}" for i in range(n)],
            meta={EVIL[3]: EVIL * (n // 4)},
            recipe={"backbone": name},
        )
        for name, part in ((EVIL[0], X), (EVIL[2], X[:, :2]))
    ]
    probe = bp.fit(sets[0], head="ncm", quiet=True)
    quick = {"head": "ncm", "quiet": True}
    return {
        "Features": sets[0],
        "Probe": probe,
        "Predictions": probe.predict(sets[0], quiet=True),
        "Comparison": bp.compare(sets, folds=3, repeats=1, **quick),
        "LearningCurve": bp.curve(sets[0], draws=3, **quick),
        "Suspects": bp.suspects(sets[0], folds=3, repeats=1, **quick),
    }


def test_each_class_that_shows_itself_is_among_them(shown):
    classes = {
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
        and any(getattr(each, "name", "") == "_repr_html_" for each in node.body)
    }
    assert classes == set(shown)


NAMES = ["Features", "Probe", "Predictions", "Comparison", "LearningCurve", "Suspects"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_text_and_nothing_is_loaded(name, shown):
    page = Shown(shown[name]._repr_html_())
    assert {tag for tag, _ in page.elements} <= TAGS
    assert all(attributes == [] for _, attributes in page.elements)
    if name in ("Features", "Predictions", "Comparison", "Suspects"):
        assert any(evil[:12] in page.text for evil in EVIL)


@pytest.mark.parametrize("name", NAMES)
def test_a_terminal_is_not_steered(name, shown):
    assert "\x1b" not in f"{shown[name]}{shown[name]!r}"


def test_what_is_looked_for_would_be_found():
    page = Shown(f"<table><tr><td>{EVIL[0]}</td><td>{EVIL[1]}</td></tr></table>")
    assert {"script", "img"} <= {tag for tag, _ in page.elements}
