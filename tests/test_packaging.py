"""What is installed: the wheel's modules, the names it brings, and what it does not disturb."""

import pkgutil
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import bottleneck_probe as bp
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_the_wheel_holds_every_module_of_the_folder(tmp_path):
    # From a copy: setuptools leaves a build folder beside what it builds.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for file in (ROOT / "bottleneck").rglob("*"):
        if file.suffix == ".py" or file.name == "py.typed":
            target = tmp_path / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    done = python(
        *("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", "dist", "."),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        f"bottleneck_probe/{file.relative_to(ROOT / 'bottleneck').as_posix()}"
        for file in (ROOT / "bottleneck").rglob("*")
        if file.suffix == ".py" or file.name == "py.typed"
    }
    assert held == wanted


@pytest.mark.parametrize("folder", [ROOT, ROOT / "tests"], ids=["root", "elsewhere"])
def test_pandas_imports_without_a_warning_beside_us(folder):
    """From the root pandas finds our folder `bottleneck` when it looks for PyPI's Bottleneck."""
    done = python(
        "-W",
        "error",
        "-c",
        "import bottleneck_probe, pandas; pandas.Series([1.0]).mean()",
        cwd=folder,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_folder_cannot_be_imported_under_its_own_name():
    done = python("-c", "import bottleneck", cwd=ROOT)
    assert "ImportError: this folder is bottleneck-probe" in done.stderr


def test_python_dash_m_is_the_command():
    done = python("-m", "bottleneck_probe", "--version")
    assert done.stdout == f"bottleneck, version {bp.__version__}\n"


HEAVY = {"torch", "torchvision", "timm", "sklearn", "scipy", "numpy", "h5py", "PIL", "onnxruntime"}


@pytest.mark.parametrize("arguments", ["--help", "extract --help", "fit --help", "--version"])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys; sys.argv = ['bottleneck'] + sys.argv[1:]\n"
        "from bottleneck_probe.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = python("-c", code, *arguments.split())
    loaded = set(re.search("LOADED (.*)", done.stdout)[1].split())
    assert "click" in loaded, "or the list says nothing"
    assert loaded & HEAVY == set()


def test_importing_the_package_imports_nothing_heavy():
    done = python("-c", "import bottleneck_probe, sys; print(*sys.modules)")
    assert {name.partition(".")[0] for name in done.stdout.split()} & HEAVY == set()


@pytest.mark.parametrize("name", bp.__all__)
def test_every_public_name_loads(name):
    assert getattr(bp, name) is not None


def test_no_module_carries_a_public_name():
    """Importing ``bottleneck_probe.extract`` would replace the function of that name."""
    modules = {module.name for module in pkgutil.iter_modules(bp.__path__)}
    assert modules & set(bp.__all__) == set()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'exctract'"):
        _ = bp.exctract


@pytest.mark.parametrize(
    ("machine", "system", "wanted"),
    [
        ("x86_64", "linux", "onnxruntime-gpu"),
        ("AMD64", "win32", "onnxruntime-gpu"),
        ("aarch64", "linux", "onnxruntime"),
        ("arm64", "darwin", "onnxruntime"),
        ("x86_64", "darwin", "onnxruntime"),
        ("ARM64", "win32", "onnxruntime"),
    ],
)
def test_each_system_gets_one_onnxruntime(machine, system, wanted):
    """Both packages write the same files; the second one installed breaks the first."""
    environment = {"platform_machine": machine, "sys_platform": system}
    chosen = [
        requirement.name
        for requirement in map(Requirement, PROJECT["dependencies"])
        if requirement.name.startswith("onnxruntime")
        and (requirement.marker is None or requirement.marker.evaluate(environment))
    ]
    assert chosen == [wanted]


def test_every_optional_package_has_an_extra_that_installs_it():
    from bottleneck_probe.extras import _EXTRAS

    for package, (extra, _) in _EXTRAS.items():
        names = {Requirement(line).name for line in PROJECT["optional-dependencies"][extra]}
        assert package.replace("_", "-") in names


def test_a_missing_optional_package_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    from bottleneck_probe.extras import require

    with pytest.raises(bp.MissingExtraError, match=r"pip install 'bottleneck-probe\[parquet\]'"):
        require("pyarrow", purpose="Writing .parquet")


AFFECTED = [
    ("torch", "2.5.1", "CVE-2025-32434: weights_only=True runs code"),
    ("torch", "2.9.1", "CVE-2026-24747: weights_only=True runs code"),
    ("torch", "2.10.0", "CVE-2026-4538: compiled networks"),
    ("torch", "2.12.0", "CVE-2025-3000"),
    ("pillow", "12.1.1", "CVE-2026-40192: a bomb in FITS"),
    ("pillow", "12.3.0", "CVE-2026-112403: overflow in its JPEG decoder"),
    ("onnx", "1.20.1", "CVE-2026-27489, -34445, -34446, -34447: other files through external data"),
    ("onnx", "1.21.0", "CVE-2026-44512: crash of the version converter"),
    ("protobuf", "6.33.4", "CVE-2026-0994"),
    ("filelock", "3.20.2", "CVE-2025-68146, CVE-2026-22701: links in the place of locks"),
    ("pyarrow", "23.0.0", "CVE-2026-25087"),
    ("aiohttp", "3.13.2", "CVE-2025-69223: a bomb in an answer"),
    ("aiohttp", "3.14.0", "PYSEC-2026-2111"),
]


@pytest.mark.parametrize(("name", "version", "hole"), AFFECTED)
def test_no_version_with_a_known_hole_may_be_installed(name, version, hole):
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    wanted = [each for each in map(Requirement, lines) if each.name == name]
    assert wanted
    assert not any(each.specifier.contains(version) for each in wanted), hole
