"""A bench as a table for people, and as Markdown for pages; both of what ``--json`` holds."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from ..report.tables import _console, _line, _table, plural
from ..report.terminal import printable

COLUMNS = (
    "contestant",
    "images/s",
    "spread",
    "x usual",
    "of ceiling",
    "start",
    "first start",
    "memory",
    "cosine median",
    "min",
    "batch",
)


def show(bench: dict[str, Any]) -> None:
    """Print it on the terminal."""
    for line in heading(bench):
        _line(line)
    _line("")
    table = _table(*COLUMNS)
    for each, row in zip(bench["contestants"], rows(bench), strict=True):
        style = {"loop": "", "ours": "bold"}.get(each["kind"], "")
        table.add_row(*(Text(printable(cell), style=style) for cell in row))
    _console().print(table)
    _line("")
    for line in (*ceiling_lines(bench), *notes(bench)):
        _console().print(Text(printable(line), style="dim"))


def markdown(bench: dict[str, Any]) -> str:
    """The heading as a paragraph, the table, and the ceilings as a list."""
    lines = [" \n".join(heading(bench)), ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "| --- |" + " ---: |" * (len(COLUMNS) - 1)]
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows(bench)
    ]
    lines += ["", *(f"- {line}" for line in (*ceiling_lines(bench), *notes(bench)))]
    return "\n".join(lines)


def heading(bench: dict[str, Any]) -> list[str]:
    """Machine, images, backbone, versions."""
    machine, images, options = bench["machine"], bench["images"], bench["options"]
    flags = ", ".join(flag.upper().replace("_", "-") for flag in machine["flags"][-3:])
    where = f"{machine['processor']}, {plural(machine['cores'], 'core')}"
    where += f" ({flags})" if flags else ""
    where += f", {machine['memory_gb']:.0f} GB" if machine["memory_gb"] else ""
    device = bench["device"] + (f", {machine['device_name']}" if machine["device_name"] else "")
    names = ("torch", "torchvision", "onnxruntime", "onnxruntime-gpu", "openvino", "pillow")
    versions = ", ".join(
        f"{name} {bench['versions'][name]}" for name in names if name in bench["versions"]
    )
    backbone = bench["backbone"]
    return [
        f"{where}, {machine['system']}; device {device}",
        f"{plural(images['count'], 'image')}, {images['width']}x{images['height']} (median), "
        f"{images['kilobytes']:.0f} KB (mean); {images['source']}",
        f"{backbone['name']}, weights {backbone['weights_sha256'][:12]} ({backbone['weights']}); "
        f"median of {plural(options['repeats'], 'interleaved run')}; {versions}",
    ]


def rows(bench: dict[str, Any]) -> list[list[str]]:
    """The cells of each contestant, in order."""
    return [_row(each) for each in bench["contestants"]]


def _row(each: dict[str, Any]) -> list[str]:
    if each["error"] or each["images_per_second"] is None:
        return [each["name"], "failed", *[""] * (len(COLUMNS) - 2)]
    speed, cosine = each["images_per_second"], each["cosine"]
    settled = each["name"].startswith("auto") and f" ({each['engine']} {each['precision']})"
    return [
        each["name"] + (settled or ""),
        _number(speed["median"]),
        f"{_number(speed['low'])} to {_number(speed['high'])}",
        "-" if each["ratio"] is None else f"{each['ratio']['median']:.1f}",
        "-" if each["share"] is None else f"{each['share']['median']:.2f}",
        _seconds(each["start_s"]),
        _seconds(each["first_start_s"]),
        _memory(each["peak_memory_bytes"]),
        "-" if cosine is None else f"{cosine['median']:.5f}",
        "-" if cosine is None else f"{cosine['min']:.5f}",
        str(each["batch_size"] or "-"),
    ]


def ceiling_lines(bench: dict[str, Any]) -> list[str]:
    """What the parts do alone."""
    ceilings = bench["ceilings"]
    lines = []
    if ceilings["error"]:
        lines.append(f"ceilings: not measured: {ceilings['error']}")
    decode = ceilings["decode"]
    if decode["each"]:
        lines.append("decode alone, images/s: " + _ranked(decode["each"]))
    for precision, found in ceilings["forward"].items():
        lines.append(f"forward alone in {precision}, images/s: " + _ranked(found["each"]))
    if decode["each"] and ceilings["forward"]:
        how = (
            "1 / (1 / decode + 1 / forward), which share the cores"
            if ceilings["shared_cores"]
            else "the lesser of decode and forward"
        )
        lines.append(f"ceiling: {how}, of the best of each in the same run")
    if ceilings["write_bytes_per_second"]:
        rate = ceilings["write_bytes_per_second"]["median"] / 1e6
        lines.append(f"write alone, until on the disk: {rate:,.0f} MB/s")
    return lines


def _ranked(each: dict[str, Any]) -> str:
    ordered = sorted(each, key=lambda name: -each[name]["median"])
    return ", ".join(f"{name} {_number(each[name]['median'])}" for name in ordered)


def notes(bench: dict[str, Any]) -> list[str]:
    """What must be known to read the table."""
    lines = [
        "start: from the start of a process to the features of 8 images, network cached; first start: with "
        "an empty cache; x usual and of ceiling: median of the rounds, each against its own round"
    ]
    counts = {each["images"] for each in bench["contestants"] if each["images"]}
    if len(counts) > 1:
        slow = min(counts)
        lines.append(
            f"slow contestants ran on {slow:,} images and more, the fast ones on up to {max(counts):,}"
        )
    for each in bench["contestants"]:
        told = each["error"] or each["note"]
        if told:
            lines.append(f"{each['name']}: {told}")
    lines += [f"left out: {each}" for each in bench["left_out"]]
    for name, why in bench["ceilings"]["decode"]["left_out"].items():
        lines.append(f"decoder left out: {name}: {why}")
    ran = [each for each in bench["contestants"] if each["images_per_second"]]
    if any(each["peak_memory_bytes"] is None for each in ran):
        lines.append("memory: needs psutil; pip install 'bottleneck-probe[bench]'")
    lines.append(f"the whole bench took {bench['seconds']:.0f} s")
    return lines


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def _memory(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:,.0f} MB"
