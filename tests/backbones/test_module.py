"""A module of the user's: left alone, cut where it says, and known by its tensors and code."""

import contextlib
import copy
import dataclasses
import enum
import fractions
import logging
import os
import re
import subprocess
import sys
import threading
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from bottleneck_probe import InputError
from bottleneck_probe.backbones import network
from bottleneck_probe.backbones.base import PENULTIMATE, Backbone, Output
from bottleneck_probe.backbones.foreign import classifier_of
from bottleneck_probe.backbones.module_digest import digest_of, look_at
from bottleneck_probe.backbones.sources.module import SOURCE, from_module
from bottleneck_probe.images.preprocess import Preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import networks

SMALL = Preprocessing(36, (32, 32), "bilinear", (0.5,) * 3, (0.5,) * 3)


class Net(nn.Module):
    """A small CNN with everything that training leaves behind."""

    def __init__(self, head=True, scale=1.0):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 12, 3, 2, 1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(12, 5) if head else nn.Identity()
        self.scale = scale

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = self.body(x).relu().mean((2, 3)) * self.scale
        return self.fc(self.drop(x))


@pytest.fixture(scope="module")
def batch():
    small = torch.rand((3, 3, 4, 4), generator=torch.Generator().manual_seed(1)) * 2 - 1
    return nn.functional.interpolate(small, size=32)


def _net(**options):
    return networks.he_(Net(**options), 3)


def _run(module, batch, outputs=(PENULTIMATE,)):
    entry, weights = from_module(module)
    cut, nodes, _ = network.load(Backbone(entry, weights, SMALL, outputs))
    with torch.no_grad():
        return cut(batch), nodes, entry


def test_features_are_those_of_the_module(batch):
    module = networks.calibrate_(_net(), batch)
    outputs = (PENULTIMATE, Output("norm", "flatten"), Output("body", "avg"))
    got, _, entry = _run(module, batch, outputs)
    with torch.no_grad():
        norm = module.norm(module.stem(batch))
        body = module.body(norm.relu())
        feature = body.relu().mean((2, 3))
        wanted = [feature, norm.flatten(1), body.mean((2, 3))]
        assert torch.equal(module.fc(got[0]), module(batch))
    assert networks.spread(feature) > 0.05
    for a, b in zip(got, wanted, strict=True):
        assert networks.error(a, b) < 1e-4
    assert any("the input of fc (12)" in note for note in entry.notes)


def test_the_module_is_left_as_it_was(batch):
    module = _net()
    module.train()
    module.fc.eval()
    module(batch).sum().backward()
    calls = []
    module.stem.register_forward_hook(
        lambda m, a, out: calls.append(1) if m is module.stem else None
    )
    before = copy.deepcopy(module.state_dict())
    grads = {name: p.grad.clone() for name, p in module.named_parameters()}
    hooks = {name: dict(part._forward_hooks) for name, part in module.named_modules()}
    modes = {name: part.training for name, part in module.named_modules()}
    flags = {name: p.requires_grad for name, p in module.named_parameters()}
    state = torch.get_rng_state()
    got, _, entry = _run(module, batch)
    assert got[0].grad_fn is None
    assert calls == []  # the copy's hook runs, on the copy
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert all(torch.equal(grads[n], p.grad) for n, p in module.named_parameters())
    assert flags == {name: p.requires_grad for name, p in module.named_parameters()}
    assert modes == {name: part.training for name, part in module.named_modules()}
    assert hooks == {name: dict(part._forward_hooks) for name, part in module.named_modules()}
    assert any("hooks" in note for note in entry.notes)
    # What the user does next does not reach the copy.
    entry, weights = from_module(module)
    first = network.load(Backbone(entry, weights, SMALL))[0](batch)[0]
    with torch.no_grad():
        module.stem.weight.zero_()
    assert torch.equal(first, network.load(Backbone(entry, weights, SMALL))[0](batch)[0])


class Ends(nn.Module):
    """A network with a given end."""

    def __init__(self, *end):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.hidden = nn.Linear(8, 6)
        self.end = nn.Sequential(*end)

    def forward(self, x):
        return self.end(self.hidden(self.stem(x).relu().mean((2, 3))))


@pytest.mark.parametrize(
    ("module", "size", "name"),
    [
        (Ends(nn.ReLU(), nn.Linear(6, 4)), 6, "end.1"),
        (Ends(nn.ReLU(), nn.Dropout(), nn.Linear(6, 4), nn.Softmax(1)), 6, "end.2"),
        (Ends(nn.ReLU(), nn.Linear(6, 4), nn.LogSoftmax(1)), 6, "end.1"),
        (Ends(nn.ReLU(), nn.Linear(6, 1), nn.Sigmoid()), 6, "end.1"),
        (Ends(nn.ReLU(), nn.Dropout()), 6, None),  # VGG without its last layer
        (Ends(nn.LayerNorm(6)), 6, None),
        (Ends(nn.ReLU(), nn.Linear(6, 4), nn.ReLU()), 4, None),
        (Net(head=False), 12, None),  # model.fc = nn.Identity()
        (Ends(), 8, "hidden"),
        (nn.Sequential(nn.Conv2d(3, 7, 32), nn.Flatten()), 7, None),
        (nn.Sequential(nn.Conv2d(3, 7, 3), nn.AdaptiveAvgPool2d(1)), 7, None),
    ],
    ids=lambda value: None if isinstance(value, nn.Module) else str(value),
)
def test_the_classifier_is_the_linear_layer_that_gives_the_output(module, size, name, batch):
    networks.he_(module, 2)
    assert classifier_of(module.eval(), (32, 32)).name == name
    got, _, entry = _run(module, batch)
    assert got[0].shape == (3, size)
    note = next(note for note in entry.notes if "penultimate" in note)
    assert (f"the input of {name}" if name else "own output") in note
    if name is None:
        with torch.no_grad():
            own = module(batch).flatten(1)
        torch.testing.assert_close(got[0], own)


def test_a_layer_that_runs_twice_is_no_classifier(batch):
    class Twice(Ends):
        def forward(self, x):
            x = self.stem(x).relu().mean((2, 3))
            return self.hidden(nn.functional.pad(self.hidden(x), (0, 2)))

    assert classifier_of(Twice().eval(), (32, 32)).name is None


def test_timms_configuration_is_taken(batch):
    import timm

    module = networks.he_(timm.create_model("resnet10t.c3_in1k"), 1)
    entry, _ = from_module(module)
    data = timm.data.resolve_model_data_config(module)
    p = entry.preprocessing()
    assert (p.crop, p.mean, p.interpolation) == (
        data["input_size"][1:],
        data["mean"],
        data["interpolation"],
    )
    got, _, _ = _run(module, batch)
    with torch.no_grad():
        wanted = module.eval().forward_head(module.forward_features(batch), pre_logits=True)
    assert networks.error(got[0], wanted) < 1e-4
    module.reset_classifier(0)
    entry, _ = from_module(module)
    assert any("own output (512)" in note for note in entry.notes)


def test_a_network_of_transformers_is_taken(batch):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    module = networks.he_(transformers.ViTForImageClassification(config).eval(), 1)
    got, _, _ = _run(module, batch)
    with torch.no_grad():
        wanted = module.vit(batch).last_hidden_state[:, 0]
    assert networks.error(got[0], wanted) < 1e-4
    assert not module._forward_hooks


def test_without_a_configuration_the_options_are_named():
    entry, weights = from_module(_net())
    with pytest.raises(InputError) as caught:
        entry.preprocessing()
    for option in ("--resize", "--crop", "--interpolation", "--mean", "--std"):
        assert option in caught.value.expected
    assert weights.in_memory
    assert weights.path is None


def test_what_cannot_be_used_is_said():
    class Random(Net):
        def forward(self, x):
            return nn.functional.dropout(super().forward(x), 0.5)  # always on

    class Wrong(nn.Module):
        def forward(self, x):
            return {"a": 1}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 3)))
    for module, message in (
        (networks.he_(Random(), 1), "two different results"),
        (Wrong(), "no tensor for two images"),
        (nn.Sequential(nn.LazyConv2d(3, 3)), "without a shape"),
        (scripted, "scripted"),
        ("resnet50", "the backbone is str"),
    ):
        with pytest.raises(InputError, match=message):
            from_module(module)
    with pytest.raises(InputError, match="cannot be made from its name"):
        SOURCE.entry("Net")


def test_what_trains_and_compiles_is_taken_off():
    module = _net()
    plain = from_module(module)[1].sha256
    assert from_module(nn.DataParallel(module))[1].sha256 == plain
    assert from_module(torch.compile(module))[1].sha256 == plain


def test_a_module_with_tensors_that_are_no_leaves_is_copied(batch):
    module = _net()
    module.kept = module.stem.weight * 2  # copy.deepcopy alone refuses this
    assert _run(module, batch)[0][0].shape == (3, 12)


def test_half_precision_is_run_in_float32(batch):
    module = networks.calibrate_(_net(), batch)
    wanted = _run(module, batch)[0][0]
    half = copy.deepcopy(module).bfloat16()
    got = _run(half, batch)[0][0]
    assert got.dtype == torch.float32
    assert 0 < networks.error(got, wanted) < 0.1
    assert from_module(half)[1].sha256 != from_module(module)[1].sha256


def _changes():
    def weight(m):
        m.stem.weight.data[0, 0, 0, 0] += 1e-6

    def statistic(m):
        m.norm.running_mean[3] += 1e-6

    def number(m):
        m.scale = 1.5

    def eps(m):
        m.norm.eps = 1e-3

    def layer(m):
        m.drop = nn.Identity()

    def hook(m):
        m.stem.register_forward_hook(lambda module, args, out: out * 2)

    def tensor(m):
        m.extra = torch.ones(2)

    return [weight, statistic, number, eps, layer, hook, tensor]


@pytest.mark.parametrize("change", _changes(), ids=lambda f: f.__name__)
def test_the_hash_sees_a_change(change):
    module, other = _net(), _net()
    assert digest_of(module) == digest_of(other)
    change(other)
    assert digest_of(module) != digest_of(other)


class Mode(enum.Enum):
    FIRST = 1
    SECOND = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Settings:
    scale: float = 1.0
    table: object = None


@dataclasses.dataclass(slots=True)
class Slots:
    __hidden: int
    tensor: object = None


class Plain:
    def __init__(self, **values):
        self.__dict__.update(values)
        self.me = self  # a cycle

    def method(self):
        return self


class Words(dict):
    pass


def _linear(value):
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, value)
    nn.init.zeros_(layer.bias)
    return layer


def _buffered(value):
    part = nn.Module()
    part.register_buffer("kept", torch.full((2,), float(value)), persistent=False)
    return part


def _ring(value):
    first, second = Plain(value=value), Plain()
    first.other, second.other = second, first
    return first


# Each makes something of an attribute out of 1 or 2, by which two modules differ.
STATE = {
    "dict": lambda v: {"a": {"b": v}},
    "key": lambda v: {v: "a"},
    "dict of a class": lambda v: Words(a=v),
    "attribute of a dict": lambda v: Words() if v == 1 else _set(Words(), extra=1),
    "order": lambda v: {"a": 1, "b": 2} if v == 1 else {"b": 2, "a": 1},
    "data class": lambda v: Settings(scale=v),
    "data class with slots": lambda v: Slots(v),
    "tensor in slots": lambda v: Slots(0, torch.tensor([v])),
    "enum": lambda v: Mode(v),
    "int enum": lambda v: Level(v),
    "set": lambda v: {"a", "b", v},
    "frozenset": lambda v: frozenset({Mode.FIRST, Mode(v)}),
    "numpy scalar": lambda v: np.float32(v),
    "numpy array": lambda v: np.array([0, v]),
    "type of an array": lambda v: np.zeros(2, np.float32 if v == 1 else np.int32),
    "array of objects": lambda v: np.array([{"a": v}, None], dtype=object),
    "masked array": lambda v: np.ma.masked_array([1, 1], mask=[v == 1, False]),
    "data type": lambda v: torch.float16 if v == 1 else torch.bfloat16,
    "tensors": lambda v: [torch.tensor([1.0]), torch.tensor([float(v)])],
    "tensor in a dict": lambda v: {"t": torch.tensor([v])},
    "sparse tensor": lambda v: torch.eye(2).mul(v).to_sparse(),
    "modules": lambda v: [_linear(0.0), _linear(v)],
    "modules in a dict": lambda v: {"a": (_linear(v),)},
    "buffer of a module in a list": lambda v: [_buffered(v)],
    "object": lambda v: Plain(value=v),
    "objects in a ring": _ring,
    "object in a data class": lambda v: Settings(table=Plain(x=[v])),
    "namespace": lambda v: types.SimpleNamespace(v=v),
    "nesting": lambda v: [[1], [2]] if v == 1 else [[1, 2]],
    "number or text": lambda v: v if v == 1 else "1",
    "method of an object": lambda v: Plain(value=v).method,
    "function of a partial": lambda v: types.MethodType(_helper, v),
    "pattern": lambda v: re.compile("a" * v),
    "fraction": lambda v: fractions.Fraction(1, v),
    "path": lambda v: Path("a" * v),
    "generator of numbers": lambda v: torch.Generator().manual_seed(v),
    "numpy's generator": lambda v: np.random.default_rng(v),
    "range": lambda v: range(v),
    "functions of one name": lambda v: [_adding(torch.ones(1)), _adding(torch.tensor([v]))],
}


def _set(thing, **values):
    vars(thing).update(values)
    return thing


def _adding(tensor):
    return lambda x: x + tensor


@pytest.mark.parametrize("name", ["kept", "_kept"])
@pytest.mark.parametrize("kind", STATE)
def test_the_hash_sees_state_of_every_kind(kind, name):
    """Two modules of one class with other tables, settings or parts must not share features."""
    modules = []
    for value in (1, 1, 2):
        module = _net()
        setattr(module.drop, name, STATE[kind](value))
        modules.append(look_at(module))
    assert modules[0] == modules[1]
    assert modules[0].sha256 != modules[2].sha256
    assert modules[0].untold == ()


def test_state_in_an_attribute_that_only_begins_like_pytorchs(batch):
    """From the user's side: two modules that give other features, and so are told apart."""

    class Tabled(Net):
        def __init__(self, factor):
            super().__init__()
            self._table = {"factor": factor}

        def forward(self, x):
            return super().forward(x * self._table["factor"])

    made = [networks.he_(Tabled(factor), 3) for factor in (1.0, -2.0)]
    features = [_run(module, batch)[0][0] for module in made]
    assert networks.error(*features) > 0.1
    assert from_module(made[0])[1].sha256 != from_module(made[1])[1].sha256


_DIGEST_ELSEWHERE = """
import sys; sys.path[:0] = {paths!r}
import importlib.util
spec = importlib.util.spec_from_file_location("test_module", {file!r})
test = importlib.util.module_from_spec(spec); sys.modules["test_module"] = test
spec.loader.exec_module(test)
for kind, make in test.STATE.items():
    module = test._net()
    module.kept = make(1)
    print(kind, test.digest_of(module))
"""


def test_the_hash_of_state_is_the_same_in_another_process():
    code = _DIGEST_ELSEWHERE.format(paths=[p for p in sys.path if p], file=__file__)
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert len(runs[0].splitlines()) == len(STATE)


@pytest.mark.parametrize("kind", ["file", "generator", "compiled object"])
def test_what_cannot_be_told_is_known_in_this_process_only(kind, tmp_path, monkeypatch):
    """Nothing stale is taken for it, and a note says what it is."""
    from bottleneck_probe.backbones import module_digest

    with contextlib.ExitStack() as stack:
        made = {
            "file": lambda: stack.enter_context(open(tmp_path / "x", "w")),
            "generator": lambda: (i for i in range(3)),
            "compiled object": lambda: torch._C.Graph(),
        }[kind]
        module, other = _net(), _net()
        module._source = {"of": made()}
        other._source = {"of": made()}
        first = look_at(module)
        assert first.untold == ("._source['of']",)
        assert look_at(module) == first  # a probe fitted on it can still be used
        assert look_at(other).sha256 != first.sha256
        # As another process would see it.
        monkeypatch.setattr(module_digest, "_PROCESS", "0" * 32)
        assert look_at(module).sha256 != first.sha256


def test_a_note_says_what_cannot_be_told(batch):
    module = _net()
    module._engine = _Uncopied([1])
    entry, _ = from_module(module)
    note = next(note for note in entry.notes if "cannot be told" in note)
    assert "_engine" in note
    assert "this process only" in note
    assert not any("cannot be told" in note for note in from_module(_net())[0].notes)


class _Uncopied:
    """Something that cannot be told, inside of what can be copied."""

    def __init__(self, inner):
        self.inner = (each for each in inner)

    def __deepcopy__(self, memo):
        return self


def test_what_decides_nothing_is_no_obstacle():
    """Locks, logs, PyTorch's decorators: in many a module, and no reason to compute anew."""

    class Usual(Net):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()
            self.log = logging.getLogger("usual")
            self.rnn = nn.LSTM(3, 4)
            self.attention = nn.MultiheadAttention(4, 2)
            nn.utils.parametrizations.weight_norm(self.fc)

        @torch.no_grad()
        def forward(self, x):
            LOG.info("x")
            return super().forward(x)

    made = [look_at(networks.he_(Usual(), 3)) for _ in range(2)]
    assert made[0].untold == ()
    assert made[0] == made[1]


LOG = logging.getLogger(__name__)


def _with_offset(offset):
    class Other(Net):
        def forward(self, x):
            return super().forward(x) + offset

    return Other()


FACTOR = 2.0


def _helper(x):
    return x * FACTOR


class Helped(Net):
    def forward(self, x):
        return _helper(super().forward(x))


def test_the_hash_sees_other_code(monkeypatch):
    assert digest_of(networks.he_(_with_offset(1), 3)) == digest_of(
        networks.he_(_with_offset(1), 3)
    )
    assert digest_of(networks.he_(_with_offset(1), 3)) != digest_of(
        networks.he_(_with_offset(2), 3)
    )
    # The same class name defined again, as in a notebook; no file tells them apart.
    made = []
    for word in ("x + 1", "x - 1", "x + 1  # the same"):
        space = {"Net": Net}
        exec(
            f"class Mine(Net):\n    def forward(self, x):\n        x = super().forward(x)\n"
            f"        return {word}\n",
            space,
        )
        made.append(digest_of(networks.he_(space["Mine"](), 3)))
    assert made[0] != made[1]
    assert made[0] == made[2]
    # What forward calls, and the constants there.
    module = networks.he_(Helped(), 3)
    first = digest_of(module)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert digest_of(module) != first
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert digest_of(module) == first
    monkeypatch.setitem(globals(), "_helper", lambda x: x)
    assert digest_of(module) != first
    # What it takes from a module of the user's own.
    mine = types.ModuleType("mine")
    mine.FACTOR, mine.other = 2.0, 1
    monkeypatch.setitem(globals(), "_helper", lambda x: x * mine.FACTOR)
    first = digest_of(module)
    mine.other = 2
    assert digest_of(module) == first
    mine.FACTOR = 3.0
    assert digest_of(module) != first
    # The same module as an attribute.
    module.mine = mine
    first = digest_of(module)
    mine.other = 3
    assert digest_of(module) != first
    # A forward that was put over the class's.
    module = _net()
    plain = digest_of(module)
    module.forward = lambda x: x.mean((2, 3))
    assert digest_of(module) != plain


@given(st.booleans(), st.integers(0, 5))
@settings(deadline=None, max_examples=10)
def test_the_hash_does_not_see_mode_gradients_or_calls(train, calls):
    module = _net().train(train)
    module.requires_grad_(not train)
    module.eval()
    for _ in range(calls):
        module(torch.zeros(1, 3, 8, 8))
    assert digest_of(module) == digest_of(_net())


def test_the_hash_is_the_same_in_another_process(tmp_path):
    code = (
        "import torch; from torch import nn\n"
        "from bottleneck_probe.backbones.sources.module import from_module\n"
        "torch.manual_seed(0)\n"
        "m = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "print(from_module(m)[1].sha256)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout.startswith("tensors:")
