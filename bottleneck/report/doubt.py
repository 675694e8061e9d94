"""What a probe would answer if it may abstain, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def abstain_lines(extra: Mapping[str, Any]) -> list[str]:
    """The accuracies that are kept by not answering all, and the share that is answered.

    Parameters
    ----------
    extra : mapping
        Of a probe.

    Returns
    -------
    list of str
        One sentence, or none.

    Examples
    --------
    >>> rules = [{"accuracy": 0.9, "threshold": 0.0, "coverage": 1.0},
    ...          {"accuracy": 0.95, "threshold": 0.7, "coverage": 0.815},
    ...          {"accuracy": 0.99, "threshold": None, "coverage": 0.0}]
    >>> abstain_lines({"abstain": {"rules": rules}})
    ['`predict --abstain` keeps 0.9 answering all, 0.95 answering 82 %; 0.99 cannot be promised yet']
    """
    rules = extra.get("abstain", {}).get("rules", [])
    kept = [
        f"{each['accuracy']:g} answering "
        + ("all" if each["coverage"] > 0.9995 else f"{100 * each['coverage']:.0f} %")
        for each in rules
        if each["threshold"] is not None
    ]
    not_yet = [f"{each['accuracy']:g}" for each in rules if each["threshold"] is None]
    told = [f"`predict --abstain` keeps {', '.join(kept)}"] if kept else []
    told += [f"{' and '.join(not_yet)} cannot be promised yet"] if kept and not_yet else []
    return ["; ".join(told)] if told else []
