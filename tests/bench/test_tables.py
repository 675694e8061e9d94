"""A bench as text and as a picture."""

import copy
from pathlib import Path

import pytest
from bottleneck_probe.bench import plot, tables
from bottleneck_probe.errors import InputError, MissingExtraError
from PIL import Image


def _spread(value):
    return {"median": value, "low": value - 1, "high": value + 1, "runs": [value]}


def _contestant(name, **stated):
    row = {
        "name": name,
        "kind": "ours",
        "engine": "openvino",
        "precision": "bf16",
        "resampler": "pillow",
        "batch_size": 4,
        "workers": None,
        "images": 400,
        "images_per_second": _spread(350.0),
        "ratio": _spread(10.25),
        "ceiling": 380.0,
        "share": _spread(0.921),
        "forward_images_per_second": _spread(500.0),
        "first_start_s": 9.25,
        "start_s": 1.75,
        "peak_memory_bytes": 512_000_000,
        "cosine": {"median": 0.99937, "min": 0.9978, "images": 400},
        "note": "",
        "error": "",
    }
    return {**row, **stated}


BENCH = {
    "machine": {
        "processor": "Made-up 9000",
        "cores": 2,
        "flags": ["avx2", "avx512f", "avx512_bf16", "amx_bf16"],
        "memory_gb": 16.0,
        "system": "Linux x86_64",
        "python": "3.11.0",
        "load": 0.1,
        "device_name": None,
    },
    "device": "cpu",
    "device_why": "no NVIDIA GPU here",
    "versions": {"torch": "2.15.0"},
    "images": {
        "source": "photos",
        "count": 400,
        "left_out": 0,
        "width": 500,
        "height": 375,
        "kilobytes": 104.9,
    },
    "backbone": {
        "name": "efficientnet_lite0",
        "weights_sha256": "0123456789abcdef",
        "weights": "a package",
        "preprocessing": {},
    },
    "options": {"repeats": 3, "limit_s": 4.0, "batch_size": None, "workers": 2, "quick": False},
    "contestants": [
        _contestant(
            "usual loop",
            kind="loop",
            engine="",
            precision="fp32",
            images=136,
            images_per_second=_spread(34.0),
            ratio=_spread(1.0),
            first_start_s=None,
        ),
        _contestant("eager fp32", images_per_second=None, error="out of memory | swap", ratio=None),
        _contestant("auto"),
    ],
    "ceilings": {
        "shared_cores": True,
        "decode": {
            "best": "ours",
            "each": {"Pillow": _spread(800.0), "ours": _spread(1200.0)},
            "left_out": {"torchvision": "no"},
        },
        "forward": {"bf16": {"best": "auto", "each": {"auto": _spread(500.0)}}},
        "write_bytes_per_second": _spread(7e8),
        "error": "",
    },
    "left_out": ["thingsvision: pins"],
    "seconds": 180.4,
}


def test_a_row_says_what_was_measured():
    loop, failed, auto = tables.rows(BENCH)
    assert auto == [
        "auto (openvino bf16)",
        "350",
        "349 to 351",
        "10.2",
        "0.92",
        "1.8 s",
        "9.2 s",
        "512 MB",
        "0.99937",
        "0.99780",
        "4",
    ]
    assert loop[0] == "usual loop"
    assert (loop[1], loop[6]) == ("34.0", "-")
    assert failed[:2] == ["eager fp32", "failed"]
    assert {len(row) for row in (loop, failed, auto)} == {len(tables.COLUMNS)}


def test_machine_images_and_versions_stand_above(capsys):
    tables.show(BENCH)
    text = capsys.readouterr().out
    for part in (
        "Made-up 9000, 2 cores (AVX512F, AVX512-BF16, AMX-BF16), 16 GB",
        "400 images, 500x375 (median), 105 KB (mean); photos",
        "efficientnet_lite0, weights 0123456789ab (a package); median of 3 interleaved runs",
        "decode alone, images/s: ours 1,200, Pillow 800",
        "forward alone in bf16, images/s: auto 500",
        "write alone, until on the disk: 700 MB/s",
        "eager fp32: out of memory",
        "left out: thingsvision",
        "decoder left out: torchvision: no",
        "slow contestants ran on 136 images and more",
    ):
        assert part in text
    assert "psutil" not in text


def test_missing_numbers_are_dashes_and_what_would_bring_them_is_said():
    bench = copy.deepcopy(BENCH)
    bench["contestants"][2].update(ratio=None, share=None, cosine=None, peak_memory_bytes=None)
    assert tables.rows(bench)[2].count("-") == 5
    assert any("psutil" in line for line in tables.notes(bench))


def test_markdown_is_one_table_that_no_name_can_break():
    bench = copy.deepcopy(BENCH)
    bench["contestants"][1]["name"] = "a|b"
    lines = tables.markdown(bench).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 3
    assert {line.replace("\\|", "").count("|") for line in table} == {len(tables.COLUMNS) + 1}
    assert any(line.startswith("- decode alone") for line in lines)


@pytest.mark.parametrize("suffix", plot.SUFFIXES)
def test_a_picture_is_drawn_in_the_format_of_its_suffix(tmp_path, suffix):
    path = tmp_path / f"bench{suffix}"
    plot.require_plottable(path)
    plot.draw(BENCH, path)
    start = path.read_bytes()[:400]
    assert {".svg": b"<svg", ".png": b"PNG", ".pdf": b"%PDF"}[suffix] in start


def test_the_bars_are_as_long_as_the_medians(tmp_path):
    """Bars of two contestants, measured in pixels of the picture."""
    path = tmp_path / "bench.png"
    plot.draw(BENCH, path)
    with Image.open(path) as image:
        pixels = image.convert("RGB")
    lengths = []
    for colour in ((0x99, 0x99, 0x99), (0x00, 0x72, 0xB2)):
        rows = []
        for y in range(pixels.height):
            row = [pixels.getpixel((x, y)) == colour for x in range(0, pixels.width)]
            rows.append(sum(row))
        lengths.append(max(rows))
    assert lengths[1] / lengths[0] == pytest.approx(350 / 34, rel=0.1)


def test_the_same_bench_gives_the_same_svg(tmp_path):
    for name in ("a.svg", "b.svg"):
        plot.draw(BENCH, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_what_cannot_be_drawn_is_refused_beforehand(tmp_path, monkeypatch):
    for path in (tmp_path / "bench.bmp", tmp_path / "nowhere" / "bench.svg"):
        with pytest.raises(InputError, match="cannot be drawn"):
            plot.require_plottable(path)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="needs the package matplotlib"):
        plot.require_plottable(Path(tmp_path / "bench.svg"))
