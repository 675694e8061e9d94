"""A comparison as a table and a plain sentence, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from .tables import PROTOCOLS, _console, _line, _table, plural
from .terminal import printable

if TYPE_CHECKING:
    from ..comparison import ComparedSet, Comparison
    from ..evaluate.compare import Difference, Recommendation

# A difference in score that most people would act on. An interval that reaches further says that there
# are too few images, not that the sets are alike.
_MATTERS = 0.05
# The corrected t-test of five splits, with four degrees of freedom, sees little but the largest.
_FEW_SPLITS = 10
_SMALLEST = 0.001  # p that is spelled out


def show_comparison(found: Comparison) -> None:
    """Scores and differences, best first; what was tested; which set to take."""
    table = _table(*columns(found))
    for i, row in zip(found.order(), rows(found), strict=True):
        style = "bold" if i == found.recommendation.take else ""
        table.add_row(*(Text(printable(cell), style=style) for cell in row))
    _console().print(table)
    count = len(found.differences)
    tests = "; ".join(dict.fromkeys(each.test for each in found.differences))
    methods = "; ".join(dict.fromkeys(each.difference["method"] for each in found.differences))
    scores = "; ".join(dict.fromkeys(each.metrics[found.metric]["method"] for each in found.sets))
    corrected = "" if count == 1 else f", adjusted for {count} comparisons (Holm)"
    lines = [
        f"{found.protocol}: {plural(found.n, 'image')}, {PROTOCOLS[found.protocol.partition('-')[0]]}",
        f"scores: {scores}; differences, each by itself: {methods}",
        f"p: {tests}{corrected}",
    ]
    files = [each.file for each in found.sets if each.images_per_second]
    if len(set(files)) < len(files):
        lines.append("images/s: of the network in the pass that made the file; its layers share it")
    for line in lines:
        _console().print(Text(printable(line), style="dim"))
    _line(f"\n{found.reason}")
    _line(f"{found.seconds:.1f} s")


def columns(found: Comparison) -> list[str]:
    """The heads of the table."""
    p = "p" if len(found.differences) == 1 else "adjusted p"
    score = found.metric.replace("_", " ")
    return ["set", "features", "images/s", score, "95 % interval", "difference", "95 % interval", p]


def rows(found: Comparison) -> list[list[str]]:
    """The cells, best set first; a difference is to the recommended set."""
    listed = []
    for i in found.order():
        each, against = found.sets[i], found.to_recommended(i)
        score = each.metrics[found.metric]
        cells = ["recommended", "", ""]
        if against is not None:
            d = against.of(i)
            cells = [
                f"{d['value']:+.3f}",
                f"{d['low']:+.3f} to {d['high']:+.3f}",
                _p(against.p_adjusted),
            ]
        speed = each.images_per_second
        listed.append(
            [
                _label(each),
                f"{each.feature_size:,}",
                "-" if speed is None else f"{speed:,.0f}",
                f"{score['value']:.3f}",
                f"{score['low']:.3f} to {score['high']:.3f}",
                *cells,
            ]
        )
    return listed


def explain(
    sets: Sequence[ComparedSet],
    differences: Sequence[Difference],
    found: Recommendation,
    metric: str,
    n: int,
) -> str:
    """Which set to take and why, with no more than the tests show.

    Parameters
    ----------
    sets : sequence of ComparedSet
    differences : sequence of Difference
        Of all pairs.
    found : Recommendation
    metric : str
    n : int
        Images that scored.

    Returns
    -------
    str
    """
    between = {frozenset((each.a, each.b)): each for each in differences}
    label = [_label(each) for each in sets]
    best = found.best

    def p(i: int) -> float:
        return between[frozenset((best, i))].p_adjusted

    def ahead(i: int) -> float:
        return between[frozenset((best, i))].of(best)["high"]

    word = "p" if len(differences) == 1 else "adjusted p"
    score = f"{metric.replace('_', ' ')} {sets[best].metrics[metric]['value']:.3f}"
    said = []
    if not any(each.metrics[metric]["low"] > each.baseline[metric]["value"] for each in sets):
        said.append("No set is shown to do better than always giving the most frequent class.")
    weaker = _list([label[i] for i in found.worse])
    largest = f"({word} {_bound('at most', [p(i) for i in found.worse])})"
    if not found.tied:
        said.append(f"Take {label[best]} ({score}): it is better than {weaker} {largest}.")
        return " ".join(said)
    said.append(
        f"No difference is shown between {label[best]}, the highest score ({score}), and "
        f"{_list([label[i] for i in found.tied])} "
        f"({word} {_bound('at least', [p(i) for i in found.tied])})."
    )
    if found.worse:
        said.append(
            f"{weaker} {'is' if len(found.worse) == 1 else 'are'} shown to be worse {largest}."
        )
    too_few = f"{plural(n, 'image')} are too few to tell"
    if found.take == best:
        far = max(found.tied, key=ahead)
        if ahead(far) > _MATTERS:
            said.append(f"{too_few}: {label[far]} may be worse by up to {ahead(far):.3f}.")
        said.append(f"Take {label[best]}: {_why_best(sets, found)}.")
    else:
        said.append(
            f"Take {label[found.take]}, {_why(sets, found)} of those within one standard error of the "
            f"highest score; another may still be better by up to {found.at_stake:.3f}"
            + (f": {too_few}." if found.at_stake > _MATTERS else ".")
        )
    if _splits(sets[best].protocol) < _FEW_SPLITS:
        said.append("--folds 10 or --repeats 5 tells smaller differences apart.")
    return " ".join(said)


def _splits(protocol: str) -> float:
    """Outer folds times repeats; no matter for one test set."""
    folds, cross, repeats = protocol.removeprefix("nested-").partition("x")
    return int(folds) * int(repeats) if cross else float("inf")


def _why_best(sets: Sequence[ComparedSet], found: Recommendation) -> str:
    size = sets[found.best].feature_size
    if any(sets[i].feature_size < size for i in found.tied):
        return "it scores highest, and no smaller set is within one standard error of it"
    return "it scores highest and none of these is smaller"


def _why(sets: Sequence[ComparedSet], found: Recommendation) -> str:
    taken = sets[found.take]
    rivals = [sets[i] for i in (found.best, *found.near) if i != found.take]
    trained = [each for each in rivals if not each.random_weights]
    if not trained:
        return "the one with trained weights"
    if taken.feature_size < min(each.feature_size for each in trained):
        return f"the smallest ({taken.feature_size:,} features)"
    rate = f"{taken.images_per_second or 0:,.0f} images/s"
    return f"the fastest ({rate}) of the smallest ({taken.feature_size:,} features)"


def _label(each: ComparedSet) -> str:
    return f"{each.name} (random weights)" if each.random_weights else each.name


def _list(names: Sequence[str]) -> str:
    """Names in a sentence; of many the first two, since the table has them all."""
    if len(names) > 4:
        return f"{names[0]}, {names[1]} and {len(names) - 2} more"
    return " and ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)


def _bound(word: str, values: Sequence[float]) -> str:
    """The one p, or the last or first of several: ``at most 0.003``."""
    extreme = (max if word == "at most" else min)(values, default=1.0)
    plain = len(values) < 2 or extreme < _SMALLEST
    return _p(extreme) if plain else f"{word} {_p(extreme)}"


def _p(value: float) -> str:
    return f"<{_SMALLEST}" if value < _SMALLEST else f"{value:.3f}"
