"""PyTorch Hub: the repository's own network, its code named, told apart and fetched in one piece."""

import io
import sys
import threading
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from bottleneck_probe import InputError, WeightsError
from bottleneck_probe.backbones import hub_repository, network
from bottleneck_probe.backbones.base import PENULTIMATE, Backbone, Output
from bottleneck_probe.backbones.sources.hub import SOURCE
from bottleneck_probe.backbones.weights import from_file
from bottleneck_probe.images.preprocess import Preprocessing

sys.path.insert(0, str(Path(__file__).parents[1]))
import networks

SMALL = Preprocessing(72, (64, 64), "bilinear", (0.5,) * 3, (0.5,) * 3)

HUBCONF = '''
dependencies = ["torch"]
import torch
from nets.small import Small, Weights


def small_vits14(*, pretrained=True, weights=Weights.LVD142M, **kwargs):
    """A network of its own code, named and called as DINOv2's are."""
    if pretrained:
        raise OSError("would download " + weights.value)
    return Small(**kwargs)


def resnet18(*, weights=None, progress=True):
    import torchvision
    return torchvision.models.resnet18(weights=weights, progress=progress)


def with_configuration(pretrained=False):
    import timm
    return timm.create_model("resnet10t.c3_in1k", pretrained=pretrained)


def needs_more(pretrained, width):
    return Small()


def no_network(pretrained=False):
    return "a text"


def prints(pretrained=False):
    print("Using cache found in a folder")
    return Small()


def random_one():
    return torch.nn.Sequential(Small(), torch.nn.Linear(6, 3))


def _helper():
    return Small()
'''
SMALL_CODE = '''
from enum import Enum
import torch
from torch import nn


class Weights(Enum):
    LVD142M = "LVD142M"


class Small(nn.Module):
    """DINO-like: no classifier, the output is the class token; two register-like tokens."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 6, 16, 16)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 6))
        self.block = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Identity()

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), 1)
        return self.head(self.norm(self.block(x))[:, 0])
'''


def _clone(folder):
    (folder / "nets").mkdir(parents=True)
    (folder / "hubconf.py").write_text(HUBCONF)
    (folder / "nets" / "__init__.py").write_text("")
    (folder / "nets" / "small.py").write_text(SMALL_CODE)
    return folder


@pytest.fixture
def clone(tmp_path):
    return _clone(tmp_path / "my-clone")


@pytest.fixture(scope="module")
def batch():
    small = torch.rand((3, 3, 8, 8), generator=torch.Generator().manual_seed(1)) * 2 - 1
    return torch.nn.functional.interpolate(small, size=64)


def _direct(clone, model, **options):
    """The network as PyTorch Hub itself gives it."""
    return torch.hub.load(str(clone), model, source="local", **options).eval()


def _backbone(clone, model, module, folder, outputs=(PENULTIMATE,)):
    weights = from_file(networks.save(module, folder / f"{model}.pth"))
    return Backbone(SOURCE.entry(f"{clone}:{model}"), weights, SMALL, outputs)


@pytest.mark.parametrize(
    ("model", "options", "inner"),
    [
        ("small_vits14", {"pretrained": False}, ("patch_embed", "norm")),
        ("resnet18", {"weights": None}, ("layer1.0.conv1", "layer3")),
    ],
)
def test_features_are_those_of_the_network(model, options, inner, clone, batch, tmp_path):
    theirs = networks.calibrate_(networks.he_(_direct(clone, model, **options), 4), batch)
    outputs = (PENULTIMATE, *(Output(name, "flatten") for name in inner))
    backbone = _backbone(clone, model, theirs, tmp_path, outputs)
    seen = {}

    def keep(name, module, args, out):
        seen[name] = out

    for name in (*inner, "avgpool" if model == "resnet18" else "head"):
        theirs.get_submodule(name).register_forward_hook(partial(keep, name))
    with torch.no_grad():
        logits = theirs(batch)
        cut, _, unused = network.load(backbone)
        got = cut(batch)
        if model == "resnet18":
            torch.testing.assert_close(theirs.fc(got[0]), logits)
            assert unused == 2  # the classifier's tensors
    wanted = seen["avgpool" if model == "resnet18" else "head"]
    assert networks.spread(wanted) > 0.05
    assert networks.error(got[0], wanted) < 1e-4
    for features, name in zip(got[1:], inner, strict=True):
        assert networks.error(features, seen[name].flatten(1)) < 1e-4


def test_the_note_says_whose_code_runs_and_the_name_holds_no_path(clone):
    entry = SOURCE.entry(f"{clone}:resnet18")
    assert str(clone.parent) not in entry.name
    assert entry.name.startswith("hub/my-clone+")
    assert entry.name.endswith(":resnet18")
    assert str(clone) in entry.notes[0]
    assert "runs the code" in entry.notes[0]
    assert entry.weights is None
    assert not entry.stable


def test_naming_a_backbone_runs_no_code(clone, tmp_path):
    ran = tmp_path / "ran"
    first = f"from pathlib import Path\nPath({str(ran)!r}).touch()\n"
    (clone / "hubconf.py").write_text(first + HUBCONF)
    entry = SOURCE.entry(f"{clone}:resnet18")
    assert not ran.exists()
    entry.build((64, 64))
    assert ran.exists()


def test_other_code_is_another_backbone(clone, tmp_path):
    # Unlike the clones of other tests, which would be found just as well.
    (clone / "nets" / "mark.py").write_text(f"PLACE = {str(clone)!r}")
    entry = SOURCE.entry(f"{clone}:small_vits14")
    rest = entry.name.removeprefix("hub/")
    assert SOURCE.entry(rest).name == entry.name  # found again, wherever it is
    clone.rename(tmp_path / "elsewhere")
    moved = SOURCE.entry(f"{tmp_path / 'elsewhere'}:small_vits14")
    assert moved.name.split("+")[1] == entry.name.split("+")[1]
    assert SOURCE.entry(rest).name == entry.name
    code = tmp_path / "elsewhere" / "nets" / "small.py"
    code.write_text(SMALL_CODE.replace("[:, 0]", "[:, 1]"))
    assert SOURCE.entry(f"{tmp_path / 'elsewhere'}:small_vits14").name != moved.name
    with pytest.raises(InputError, match="were changed"):
        SOURCE.entry(rest)


def test_two_clones_with_modules_of_one_name_do_not_mix(clone, batch, tmp_path):
    other = _clone(tmp_path / "other")
    code = other / "nets" / "small.py"
    code.write_text(SMALL_CODE.replace("[:, 0]", "[:, 1]"))
    theirs = networks.he_(_direct(clone, "small_vits14", pretrained=False), 4)
    results = []
    for folder in (clone, other, clone):
        backbone = _backbone(folder, "small_vits14", theirs, tmp_path)
        with torch.no_grad():
            results.append(network.load(backbone)[0](batch)[0])
    assert torch.equal(results[0], results[2])
    assert networks.error(results[1], results[0]) > 0.1


def test_timms_configuration_on_the_network_is_taken_and_none_is_asked_for(clone):
    p = SOURCE.entry(f"{clone}:with_configuration").preprocessing()
    assert p.crop == (176, 176)
    with pytest.raises(InputError) as caught:
        SOURCE.entry(f"{clone}:small_vits14").preprocessing()
    assert "--mean" in caught.value.expected


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nothing", "has no entry point 'nothing'"),
        ("_helper", "has no entry point"),
        ("needs_more", "fails at needs_more: TypeError"),
        ("no_network", "no_network of my-clone gives str"),
    ],
)
def test_what_cannot_be_built_is_said(model, message, clone):
    with pytest.raises(InputError, match=message):
        SOURCE.entry(f"{clone}:{model}").build((64, 64))


@pytest.mark.parametrize(
    "line",
    ["import not_installed_anywhere", 'dependencies = ["not_installed_anywhere"]', "x = = 1"],
)
def test_code_that_cannot_be_imported_is_an_error(line, clone):
    with open(clone / "hubconf.py", "a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(InputError, match="the code of my-clone fails") as caught:
        SOURCE.entry(f"{clone}:resnet18").build((64, 64))
    assert "packages" in caught.value.next


def test_what_the_code_prints_does_not_reach_stdout(clone, capsys):
    SOURCE.entry(f"{clone}:prints").build((64, 64))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Using cache" in captured.err


@pytest.mark.parametrize("name", ["owner/repo", ":resnet18", "/nowhere:resnet18", "a:b", "a/b/c:d"])
def test_a_name_that_says_too_little_is_an_error(name):
    with pytest.raises(InputError):
        SOURCE.entry(name)


def test_a_folder_without_hubconf_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"no hubconf\.py"):
        SOURCE.entry(f"{tmp_path}:resnet18")


def _archive(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


@pytest.fixture
def github(tmp_path, monkeypatch):
    """A server that plays GitHub, and an empty folder of torch.hub's."""
    pages = {}
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = pages.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(hub_repository, "GITHUB", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    yield pages, asked
    server.shutdown()
    server.server_close()


FILES = {
    "dinov2-1a2b/hubconf.py": HUBCONF,
    "dinov2-1a2b/nets/__init__.py": "",
    "dinov2-1a2b/nets/small.py": SMALL_CODE,
}


def test_a_repository_is_fetched_once_to_torch_hubs_folder(github, tmp_path):
    pages, asked = github
    pages["/facebookresearch/dinov2/archive/refs/heads/main.zip"] = _archive(FILES)
    entry = SOURCE.entry("facebookresearch/dinov2:small_vits14")
    assert entry.name.startswith("hub/facebookresearch/dinov2@main+")
    assert "github.com/facebookresearch/dinov2 at main" in entry.notes[0]
    folder = tmp_path / "torch" / "hub" / "facebookresearch_dinov2_main"
    assert (folder / "nets" / "small.py").read_text() == SMALL_CODE
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing left over
    assert SOURCE.entry("facebookresearch/dinov2:small_vits14").name == entry.name
    assert SOURCE.entry("facebookresearch/dinov2@main:small_vits14").name == entry.name
    assert SOURCE.entry(entry.name.removeprefix("hub/")).name == entry.name
    assert len(asked) == 1
    entry.build((64, 64))


def test_a_tag_is_found_where_there_is_no_branch(github):
    pages, asked = github
    pages["/a/b/archive/refs/tags/v1.0.zip"] = _archive(FILES)
    assert SOURCE.entry("a/b@v1.0:resnet18").name.startswith("hub/a/b@v1.0+")
    assert len(asked) == 2


def test_without_the_repository_the_error_names_the_way_out(github, tmp_path):
    with pytest.raises(WeightsError, match="the code of a/b is not on this machine") as caught:
        SOURCE.entry("a/b:resnet18")
    assert "git clone" in caught.value.next
    assert "404" in caught.value.what
    with pytest.raises(InputError, match="is a commit"):
        SOURCE.entry(f"a/b@{'0' * 40}:resnet18")


@pytest.mark.parametrize(
    "files",
    [{"x/../../evil.py": "x", "x/hubconf.py": ""}, {"/evil.py": "x"}, {"x\\..\\evil.py": "x"}],
    ids=["above", "absolute", "backslash"],
)
def test_an_archive_that_writes_elsewhere_is_refused(files, github, tmp_path):
    pages, _ = github
    pages["/a/b/archive/refs/heads/main.zip"] = _archive(files)
    with pytest.raises(InputError, match="would write to"):
        SOURCE.entry("a/b:resnet18")
    assert not list(tmp_path.rglob("evil.py"))
    assert not list((tmp_path / "torch" / "hub").iterdir())


def test_a_page_that_is_no_archive_is_an_error(github):
    pages, _ = github
    pages["/a/b/archive/refs/heads/main.zip"] = b"<html>log in</html>"
    with pytest.raises(WeightsError):
        SOURCE.entry("a/b:resnet18")
