"""A network's graph for lower precisions: what is folded, what is left alone, what autocast would do."""

import sys
from pathlib import Path

import pytest
import torch
from bottleneck_probe import EngineError
from bottleneck_probe.backbones import registry
from bottleneck_probe.backbones.proof import relative_error
from bottleneck_probe.engines import eager, lowered
from bottleneck_probe.engines.eager import EagerEngine
from bottleneck_probe.engines.lowered import Lowered, autocast, lower
from bottleneck_probe.engines.network import load
from bottleneck_probe.reporter import Silent
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from small import CHANGES, photographs, small_backbone

BATCH = 4


@pytest.fixture(scope="module")
def network(shared_user_cache):
    return load(small_backbone(), Silent())[0]


@pytest.fixture
def images():
    return torch.from_numpy(photographs(BATCH, 32))


def lowered_to(precision, network):
    return lower(network, size=(32, 32), batch_size=BATCH, device="cpu", precision=precision)


def calls(graph, target):
    return [node for node in graph.graph.nodes if node.target is target]


def test_batch_norms_are_folded_only_where_nothing_else_reads_the_convolution(network, images):
    graph = lowered_to("fp32", network)
    with torch.inference_mode():
        wanted, found = network(images)[0], graph(images)[0]
    assert relative_error(found.numpy(), wanted.numpy()).max() <= 1e-5
    # Of four, `stem_norm` and `same_norm` are gone; one convolution is read twice, one norm follows
    # a pooling.
    assert len(calls(graph, torch.ops.aten.batch_norm.default)) == 2
    convolutions = (torch.ops.aten.conv2d.default, torch.ops.aten.conv2d.padding)
    assert sum(len(calls(graph, target)) for target in convolutions) == 3


def test_what_lies_behind_the_cut_and_what_was_folded_is_not_kept(network):
    graph = lowered_to("fp32", network)
    assert len(calls(graph, torch.ops.aten.linear.default)) == 1  # not `fc`
    shapes = [tuple(t.shape) for t in [*graph.parameters(), *graph.buffers()]]
    assert (5, 24) not in shapes
    assert shapes.count((16, 3, 3, 3)) == 1


def test_weights_that_are_cast_before_give_what_autocast_gives(network, images):
    graph, cast = lowered_to("fp32", network), lowered_to("bf16", network)
    weights = [t for t in [*cast.parameters(), *cast.buffers()] if t.ndim > 1]
    assert {t.dtype for t in weights if t.shape[1:] != (3, 1, 1)} >= {torch.bfloat16}
    with torch.inference_mode(), autocast("cpu", "bf16"):
        wanted, found = graph(images)[0], cast(images)[0]
    assert torch.equal(found, wanted)
    with torch.inference_mode():
        assert torch.equal(Lowered(cast, "cpu", "bf16")(images)[0], found.float())
    assert relative_error(found.float().numpy(), network(images)[0].numpy()).min() > 1e-4


def test_a_graph_that_gives_other_features_is_refused(network, monkeypatch):
    def wrong(*arguments):
        weight, bias = torch.nn.utils.fusion.fuse_conv_bn_weights(*arguments)
        return weight, bias * 1.01

    monkeypatch.setattr(lowered, "fuse_conv_bn_weights", wrong)
    with pytest.raises(EngineError, match="gives other features"):
        lowered_to("fp32", network)


class Untraceable(nn.Module):
    """Looks at its values, as a network with early exits does."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = self.body(x)
        if float(x.mean()) > 1e6:
            x = -x
        return self.fc(x.mean((2, 3)))


def test_a_network_that_cannot_be_traced_still_runs_in_bfloat16():
    torch.manual_seed(0)
    backbone = registry.resolve(Untraceable(), changes=CHANGES)
    reporter, images = Silent(), photographs(BATCH, 32)
    engine = EagerEngine(
        backbone, device="cpu", batch_size=BATCH, precision="bf16", reporter=reporter
    )
    assert engine.streams == 1
    assert any("cannot trace" in note for note in reporter.notes)
    reference = EagerEngine(backbone, device="cpu", batch_size=BATCH, reporter=reporter)
    gap = relative_error(engine.run(images)[0], reference.run(images)[0])
    assert 1e-4 < gap.max() < 0.02


def test_the_reference_is_the_network_untouched(images):
    """Folding, another memory layout or fewer threads would move its last bits."""
    backbone = small_backbone()
    engine = EagerEngine(backbone, device="cpu", batch_size=BATCH, reporter=Silent())
    assert engine.streams == 1
    network, _ = load(backbone, Silent())
    with torch.no_grad():
        wanted = network(images)[0].numpy()
    assert engine.run(images.numpy())[0].tobytes() == wanted.tobytes()


def test_float16_runs_on_a_processor_too(images):
    """A file that was begun on a card goes on without one, if slowly."""
    features = {}
    for precision in ("fp32", "fp16"):
        engine = EagerEngine(
            small_backbone(),
            device="cpu",
            batch_size=BATCH,
            precision=precision,
            reporter=Silent(),
        )
        features[precision] = engine.run(images.numpy())[0]
    gap = relative_error(features["fp16"], features["fp32"])
    assert 0 < gap.max() < 5e-3


@pytest.mark.parametrize("fails", [False, True])
def test_the_number_of_threads_is_put_back(fails):
    before = torch.get_num_threads()
    try:
        with eager.threads(before + 1, before):
            assert torch.get_num_threads() == before + 1
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert torch.get_num_threads() == before
