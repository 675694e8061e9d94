"""Transfer learning, the quick way: cached penultimate features and honest probes on them.

The public names load on first use (PEP 562), so that ``import bottleneck_probe`` and
``bottleneck --help`` import neither torch nor scikit-learn.
"""

if __name__ == "bottleneck":
    # This folder lies on sys.path when Python starts in the repository's root, and pandas and xarray
    # import whatever is called `bottleneck` (PyPI's Bottleneck). An ImportError is what they expect
    # where that package is absent; a package without its functions would make them warn or fail.
    raise ImportError("this folder is bottleneck-probe: import bottleneck_probe")

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._version import __version__

# No submodule may carry one of these names: importing it would replace the function.
_HOME = {
    "BottleneckError": "errors",
    "InputError": "errors",
    "RecipeError": "errors",
    "WeightsError": "errors",
    "EngineError": "errors",
    "CacheError": "errors",
    "ProbeError": "errors",
    "FitError": "errors",
    "MissingExtraError": "errors",
    "Features": "cache.features",
    "open": "cache.features",
    "verify": "cache.verifying",
    "Report": "cache.report",
    "extract": "extraction.api",
    "embed": "extraction.api",
    "fit": "fitting",
    "compare": "comparison",
    "Comparison": "comparison",
    "curve": "learning_curve",
    "LearningCurve": "learning_curve",
    "suspects": "label_check",
    "Suspects": "label_check",
    "Probe": "probe",
    "load": "probe",
    "Predictions": "prediction",
    "list_backbones": "backbones.registry",
}

__all__ = ["__version__", *sorted(_HOME)]

if _TYPE_CHECKING:
    from .backbones.registry import list_backbones as list_backbones
    from .cache.features import Features as Features
    from .cache.features import open as open
    from .cache.report import Report as Report
    from .cache.verifying import verify as verify
    from .comparison import Comparison as Comparison
    from .comparison import compare as compare
    from .errors import BottleneckError as BottleneckError
    from .errors import CacheError as CacheError
    from .errors import EngineError as EngineError
    from .errors import FitError as FitError
    from .errors import InputError as InputError
    from .errors import MissingExtraError as MissingExtraError
    from .errors import ProbeError as ProbeError
    from .errors import RecipeError as RecipeError
    from .errors import WeightsError as WeightsError
    from .extraction.api import embed as embed
    from .extraction.api import extract as extract
    from .fitting import fit as fit
    from .label_check import Suspects as Suspects
    from .label_check import suspects as suspects
    from .learning_curve import LearningCurve as LearningCurve
    from .learning_curve import curve as curve
    from .prediction import Predictions as Predictions
    from .probe import Probe as Probe
    from .probe import load as load


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
