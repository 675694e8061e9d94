"""The examples in the docstrings of images/ show what really happens."""

import doctest
import importlib
import pkgutil

import bottleneck_probe.images
import pytest

MODULES = [module.name for module in pkgutil.iter_modules(bottleneck_probe.images.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str):
    module = importlib.import_module(f"bottleneck_probe.images.{name}")
    assert doctest.testmod(module).failed == 0


def test_the_modules_are_there():
    assert {"find", "decode", "preprocess"} <= set(MODULES)
