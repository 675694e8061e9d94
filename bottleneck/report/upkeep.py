"""What `verify` and the commands of `bottleneck cache` found, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ..cache.atomic import size
from ..recipe import ABSENT
from .tables import _console, _line, _table, plural
from .terminal import printable

if TYPE_CHECKING:
    from ..cache.differing import Difference
    from ..cache.merging import Merge
    from ..cache.repairing import Repair
    from ..cache.report import Report
    from ..cache.subsetting import Subset

_SHOWN = 20
# Of less the speed says how long Python takes to start.
_LARGE = 100_000_000


def show_report(report: Report, *, verbose: bool) -> None:
    """What was looked at, and what is wrong with it."""
    if report.problems:
        table = _table("dataset", "rows", "what")
        shown = report.problems if verbose else report.problems[:_SHOWN]
        for each in shown:
            rows = "" if each.rows is None else _range(*each.rows)
            what = f"{each.path}: {each.what}" if each.path else each.what
            table.add_row(*(Text(_one_line(cell)) for cell in (each.dataset, rows, what)))
        _console().print(table)
        _more(len(report.problems) - len(shown), "-v lists all")
    _line(_verdict(report))
    for note in report.notes:
        _line(note)
    if report.images is not None:
        counts = ", ".join(f"{n:,} {name}" for name, n in report.images.items())
        _line(f"images: {counts}")
    if report.recomputed is not None:
        found = report.recomputed
        for engine, error in found["engines"].items():
            _line(
                f"{plural(found['rows'], 'row')} computed again by {engine}: largest "
                f"{found['measure']} {error:.2g}, at most {found['tolerance']:g} is in order"
            )
    if report.parts is not None:
        show_parts(report.parts)


def _verdict(report: Report) -> str:
    if report.kind == "parts":
        return f"{report.path}: {report.problems[0].what}"
    what = plural(report.rows, "row") if report.kind != "probe" else "probe"
    speed = ""
    if report.n_bytes >= _LARGE:
        speed = f", {size(int(report.n_bytes / report.seconds))}/s"
    looked = f"{what}, {size(report.n_bytes)} in {report.seconds:.1f} s{speed}"
    if report.problems:
        return f"{report.path}: {plural(len(report.problems), 'problem')} ({looked})"
    if report.foreign:
        names = ", ".join(_one_line(name) for name in report.foreign)
        return (
            f"{report.path}: everything that this program wrote is as it was written; nothing vouches "
            f"for {names} ({looked})"
        )
    if not report.vouched:
        return f"{report.path}: nothing wrong was found, and nothing vouches for it ({looked})"
    return f"{report.path}: everything is as it was written ({looked})"


def _range(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}-{last}"


def _one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n")


def _more(count: int, hint: str) -> None:
    if count > 0:
        _line(f"... and {count:,} more ({hint})")


def show_parts(parts: dict[str, Any]) -> None:
    """What the next run takes from the parts folder."""
    said = [f"{parts['images_not_in_the_file']:,} features that the file does not have"]
    if parts["torn"]:
        said.append(f"{plural(len(parts['torn']), 'torn shard')}, to be set aside")
    if parts["of_another_recipe"]:
        said.append(
            f"{plural(parts['of_another_recipe'], 'shard')} of another recipe, to be left alone"
        )
    _line(
        f"{parts['folder']}: {plural(parts['shards'], 'finished shard')}, {plural(parts['rows'], 'row')}; "
        f"the next run finds {'; '.join(said)}"
    )


def show_repair(found: Repair, *, verbose: bool) -> None:
    """What was saved and what was lost."""
    if found.lost:
        table = _table("lost row", "image", "why")
        shown = found.lost if verbose else found.lost[:_SHOWN]
        for row, path, why in shown:
            number = str(row) if row >= 0 else "?"
            table.add_row(*(Text(_one_line(cell)) for cell in (number, path or "?", why)))
        _console().print(table)
        _more(len(found.lost) - len(shown), "-v lists all")
    if found.rows:
        _line(f"{found.name}: {plural(found.rows, 'row')} saved, {len(found.lost):,} lost")
    else:
        _line(f"{found.name} was not written: no row could be saved as a row")
    if found.by_key:
        _line(
            f"{plural(found.by_key, 'feature')} whose path is lost are kept by key beside it: `bottleneck "
            f"extract IMAGES -o {found.name}` finds them"
        )
    for note in found.notes:
        _line(note)
    if found.lost or found.from_parts:
        _line(
            f"next: bottleneck extract IMAGES -o {found.name} computes what is missing, and no more"
        )


def show_merge(found: Merge) -> None:
    """Counts of what was merged."""
    n, d = found.features.features.shape
    said = [f"{plural(n, 'row')} x {d:,}"]
    if found.repeated:
        said.append(f"{plural(found.repeated, 'row')} stood in several files")
    if found.replaced:
        said.append(f"{plural(found.replaced, 'row')} of an earlier file gave way to a later key")
    if found.linked:
        said.append("shards were taken as they are")
    _line(f"{found.output}: {'; '.join(said)}")


def show_subset(found: Subset) -> None:
    """Counts of what was taken."""
    n = len(found.features)
    classes = plural(len(found.features.classes), "class").replace("classs", "classes")
    said = f"{n:,} of {plural(found.of, 'row')}, {classes}"
    if found.unlabelled:
        said += f", {found.unlabelled:,} without a label"
    _line(f"{found.output}: {said}")


def show_difference(found: Difference, a: str, b: str, *, verbose: bool) -> None:
    """How two files differ; a line for each thing that is the same would hide what is not."""
    console = _console()
    for title, fields in (("recipe", found.recipe), ("environment", found.environment)):
        if fields:
            table = _table(title, a, b)
            for name, x, y in fields:
                table.add_row(*(Text(_one_line(cell)) for cell in (name, _short(x), _short(y))))
            console.print(table)
    if found.root:
        _line(f"root: {found.root[0] or 'none'} | {found.root[1] or 'none'}")
    _line(f"rows: {found.rows[0]:,} | {found.rows[1]:,}")
    limit = None if verbose else 5
    _listed(f"only in {a}", found.only_a, limit)
    _listed(f"only in {b}", found.only_b, limit)
    _listed("same image at another path", [f"{x} -> {y}" for x, y in found.moved], limit)
    _listed("same path, another image", found.edited, limit)
    for name, each in found.changed.items():
        _listed(f"{name} differs", [f"{p}: {_short(x)} | {_short(y)}" for p, x, y in each], limit)
    pairs = {"outputs": found.outputs, "columns": found.columns, "quarantined": found.quarantine}
    for name, (left, right) in pairs.items():
        _listed(f"{name} only in {a}", list(left), limit)
        _listed(f"{name} only in {b}", list(right), limit)
    for name, told in found.values.items():
        if told["differ"]:
            _line(
                f"{name}: {told['differ']:,} of {told['compared']:,} features of equal images differ, by up "
                f"to {told['largest']:.2g} of their length ({told['path']})"
            )
        else:
            _line(f"{name}: {told['compared']:,} features of equal images are equal")
    if found.same:
        _line("no difference" + (" but the environment" if found.environment else ""))


def _short(value: object) -> str:
    text = "-" if value is ABSENT else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(title: str, names: Sequence[str], limit: int | None) -> None:
    if names:
        shown = names[:limit]
        more = f", ... ({len(names) - len(shown):,} more)" if len(names) > len(shown) else ""
        _line(f"{title} ({len(names):,}): {', '.join(_one_line(name) for name in shown)}{more}")


def show_where(found: dict[str, Any]) -> None:
    """The user's cache, and the feature files of the folder one is in."""
    _line(f"{found['folder']}  ({found['files']} files, {size(found['bytes'])})")
    features = found["features"]
    if not features:
        _line(f"{found['features_folder']}: no feature files")
        return
    table = _table("feature files", "size", "parts")
    for each in features:
        parts = size(each["parts_bytes"]) if each["parts_bytes"] else ""
        table.add_row(*(Text(_one_line(c)) for c in (each["path"], size(each["bytes"]), parts)))
    _console().print(table)
    total = sum(each["bytes"] + each["parts_bytes"] for each in features)
    folder = Path(found["features_folder"])
    _line(
        f"{folder}: {plural(len(features), 'feature file')}, {size(total)}; `clear` leaves them alone"
    )
