"""Nothing that is read from a file can be run: no pickle, no eval, no exec, no shell, by the source."""

import ast
from pathlib import Path

import bottleneck_probe
import pytest

PACKAGE = Path(bottleneck_probe.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# Readers that run what a file says.
FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
    "yaml",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "read_pickle", "to_pickle"}
# `pickle` is named where its error is caught; nothing else of it is used.
EXCEPTIONS = {("backbones/weights.py", "pickle"): {"UnpicklingError"}}


def offences(source: str, name: str) -> list[str]:
    """What in a module would run data."""
    found = []
    for node in ast.walk(ast.parse(source)):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""] if not node.level else []
            for module in names:
                base = module.partition(".")[0]
                if base in FORBIDDEN_MODULES and (name, base) not in EXCEPTIONS:
                    found.append(f"{where}: import {module}")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = EXCEPTIONS.get((name, node.value.id))
            if used is not None and node.attr not in used:
                found.append(f"{where}: {node.value.id}.{node.attr}")
        if isinstance(node, ast.Call):
            found += [f"{where}: {what}" for what in call(node)]
    return found


def call(node: ast.Call) -> list[str]:
    function, found = node.func, []
    called = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    owner = getattr(getattr(function, "value", None), "id", "")
    options = {each.arg: each.value for each in node.keywords}
    plain = isinstance(function, ast.Name) or owner in ("builtins", "pandas", "pd")
    named = called == "__import__" and isinstance(node.args[0], ast.Constant)
    if called in FORBIDDEN_CALLS and plain and not named:
        found.append(f"{called}()")
    if (owner, called) == ("torch", "load"):
        safe = options.get("weights_only")
        if not (isinstance(safe, ast.Constant) and safe.value is True):
            found.append("torch.load without weights_only=True")
    for option in ("allow_pickle", "shell", "trust_remote_code"):
        value = options.get(option)
        if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
            found.append(f"{option}= something else than False")
    if (owner, called) in {("os", "system"), ("os", "popen"), ("jit", "load")}:
        found.append(f"{owner}.{called}")
    return found


def test_no_module_runs_data():
    found = [
        offence
        for path in MODULES
        for offence in offences(path.read_text("utf-8"), path.relative_to(PACKAGE).as_posix())
    ]
    assert len(MODULES) > 200
    assert not found


# What waits for others on a network; a cluster's scheduler does so for anybody who can reach it.
LISTENERS = {"ray", "dask", "distributed", "socketserver", "http.server", "xmlrpc"}


def listeners(source: str) -> list[str]:
    """What in a module would let others on the network in."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    opened = [f.attr for f in calls if isinstance(f, ast.Attribute)]
    return [name for name in found if name in LISTENERS or name.partition(".")[0] in LISTENERS] + [
        name for name in opened if name in ("listen", "bind", "create_server", "start_server")
    ]


def test_nothing_listens_on_the_network():
    assert not [path for path in MODULES if listeners(path.read_text("utf-8"))]
    for line in ("import ray.data as r", "from http import server", "s.bind(('', 1))"):
        assert listeners(line), line


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "builtins.exec(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
        "pd.read_pickle(path)",
        "os.system(text)",
        "Model.from_pretrained(name, trust_remote_code=asked)",
    ],
)
def test_the_check_finds_what_it_is_for(line):
    assert offences(line, "cache/reading.py")


def test_what_is_meant_is_left_alone():
    for line in ("model.eval()", "re.compile(text)", "torch.compile(module)", "np.load(path)"):
        assert not offences(line, "cache/reading.py")
    assert offences("import pickle\npickle.loads(data)", "backbones/weights.py")
    assert not offences("import pickle\npickle.UnpicklingError", "backbones/weights.py")
