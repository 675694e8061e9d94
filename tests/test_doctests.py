"""The examples in the docstrings of the whole package show what really happens."""

import doctest
import importlib
import pkgutil

import bottleneck_probe
import pytest

MODULES = [
    "bottleneck_probe",
    *(
        module.name
        for module in pkgutil.walk_packages(bottleneck_probe.__path__, "bottleneck_probe.")
        if not module.name.endswith(".__main__")  # importing it runs the command
    ),
]
EXAMPLES = doctest.DocTestFinder(exclude_empty=True)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str):
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


def test_every_part_is_there_and_has_examples():
    parts = {name.split(".")[1] for name in MODULES if name.count(".") == 2}
    assert {"images", "backbones", "engines", "cache", "heads", "evaluate"} <= parts
    examples = {
        name: sum(len(test.examples) for test in EXAMPLES.find(importlib.import_module(name)))
        for name in MODULES
    }
    for part in ("images", "backbones", "cache", "heads", "evaluate"):
        assert sum(n for name, n in examples.items() if name.split(".")[1:2] == [part]) >= 1, part


def test_a_wrong_example_would_fail():
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda text: None).failed == 1
