"""PyTorch Hub: the repository's own network, its code named, told apart and fetched in one piece."""

import io
import os
import sys
import threading
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from bottleneck_probe import InputError, RecipeError, WeightsError
from bottleneck_probe.backbones import hub_files, hub_repository, network, registry
from bottleneck_probe.backbones.base import PENULTIMATE, Backbone, Output
from bottleneck_probe.backbones.hub_files import digest_of
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


def test_an_edit_within_one_process_is_run(clone, batch, tmp_path):
    """Within the same second and of the same length, which Python's own cache cannot tell."""
    theirs = networks.he_(_direct(clone, "small_vits14", pretrained=False), 4)
    code, results, names = clone / "nets" / "small.py", [], []
    for end in ("[:, 0]", "[:, 1]", "[:, 0]"):
        code.write_text(SMALL_CODE.replace("[:, 0]", end))
        os.utime(code, (1e9, 1e9))
        backbone = _backbone(clone, "small_vits14", theirs, tmp_path)
        names.append(backbone.entry.name)
        with torch.no_grad():
            results.append(network.load(backbone)[0](batch)[0])
    assert names[0] == names[2] != names[1]
    assert torch.equal(results[0], results[2])
    assert networks.error(results[1], results[0]) > 0.1


def test_an_edit_of_hubconf_and_of_a_package_without_init_is_run(clone):
    (clone / "nets" / "__init__.py").unlink()
    for width in (3, 4):
        hubconf = HUBCONF + f"def wide():\n    return Small().append(torch.nn.Linear(6, {width}))\n"
        (clone / "hubconf.py").write_text(hubconf)
        (clone / "nets" / "small.py").write_text(
            SMALL_CODE.replace("class Small(nn.Module)", "class Small(nn.Sequential)")
            + f"    width = {width}\n"
        )
        for file in (clone / "hubconf.py", clone / "nets" / "small.py"):
            os.utime(file, (1e9, 1e9))
        module = SOURCE.entry(f"{clone}:wide").build((64, 64)).module
        assert (module[-1].out_features, type(module).width) == (width, width)


def test_an_edit_after_it_was_named_is_an_error(clone):
    """The new code must not run under the digest of the old one."""
    entry = SOURCE.entry(f"{clone}:resnet18")
    (clone / "nets" / "small.py").write_text(SMALL_CODE + "\nEDITED = True\n")
    with pytest.raises(InputError, match="were changed"):
        entry.build((64, 64))


def _digest_changes(clone, change):
    before = digest_of(clone)
    assert digest_of(clone) == before
    change()
    return digest_of(clone) != before


@pytest.mark.parametrize(
    "name",
    ["table.json", "a/b.yaml", "c.toml", "words.txt", "d.cfg", "VERSION", "w.pth", "e.so", "f.csv"],
)
def test_other_files_that_code_reads_belong_to_it(name, clone):
    file = clone / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("1")
    assert _digest_changes(clone, lambda: file.write_text("2"))
    assert _digest_changes(clone, file.unlink)


@pytest.mark.parametrize(
    "name", [".git/index", "README.md", "a.png", "cache/photos.h5", "x.probe", "__pycache__/a.pyc"]
)
def test_files_that_no_network_is_built_from_do_not(name, clone):
    """Or a run from inside the clone, which writes its features there, would change the clone."""
    file = clone / name
    file.parent.mkdir(exist_ok=True)
    assert not _digest_changes(clone, lambda: file.write_text("2"))


def test_links_are_followed_and_come_to_an_end(clone, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "net.py").write_text("1")
    (clone / "linked").symlink_to(elsewhere, target_is_directory=True)
    (clone / "file.py").symlink_to(elsewhere / "deep" / "net.py")
    (elsewhere / "back").symlink_to(clone, target_is_directory=True)
    (elsewhere / "self").symlink_to(elsewhere, target_is_directory=True)
    assert _digest_changes(clone, lambda: (elsewhere / "deep" / "net.py").write_text("2"))
    (clone / "file.py").unlink()
    assert _digest_changes(clone, lambda: (elsewhere / "deep" / "net.py").write_text("3"))


def test_large_files_count_by_size_and_time(clone, monkeypatch):
    monkeypatch.setattr(hub_files, "_LARGE_BYTES", 10)
    file = clone / "weights.pth"
    file.write_bytes(b"1" * 20)
    assert not _digest_changes(clone, lambda: None)
    assert _digest_changes(clone, lambda: os.utime(file, (1e9, 1e9)))
    file.write_bytes(b"1" * 5)
    assert not _digest_changes(clone, lambda: os.utime(file, (1e9, 1e9)))
    monkeypatch.setattr(hub_files, "_SMALL_BYTES", 4)
    assert _digest_changes(clone, lambda: (file.write_bytes(b"2" * 5), os.utime(file, (2e9, 2e9))))


def test_a_clone_full_of_data_is_an_error(clone, monkeypatch):
    monkeypatch.setattr(hub_files, "MOST_FILES", 4)
    (clone / "a.txt").touch()
    (clone / "b.txt").touch()
    with pytest.raises(InputError, match="more than 4 files") as caught:
        SOURCE.entry(f"{clone}:resnet18")
    assert caught.value.next


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


def test_a_repository_is_fetched_once_below_torch_hubs_folder(github, tmp_path):
    pages, asked = github
    pages["/facebookresearch/dinov2/archive/refs/heads/main.zip"] = _archive(FILES)
    entry = SOURCE.entry("facebookresearch/dinov2:small_vits14")
    assert entry.name.startswith("hub/facebookresearch/dinov2@main+")
    assert "github.com/facebookresearch/dinov2 at main" in entry.notes[0]
    folder = tmp_path / "torch" / "hub" / "bottleneck" / "facebookresearch__dinov2__main"
    assert (folder / "nets" / "small.py").read_text() == SMALL_CODE
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing left over
    assert SOURCE.entry("facebookresearch/dinov2:small_vits14").name == entry.name
    assert SOURCE.entry("facebookresearch/dinov2@main:small_vits14").name == entry.name
    assert SOURCE.entry(entry.name.removeprefix("hub/")).name == entry.name
    assert len(asked) == 1
    entry.build((64, 64))


def test_a_file_does_not_choose_which_code_runs(github, tmp_path):
    """The recipe of a probe from a stranger names a repository of the stranger's."""
    pages, asked = github
    pages["/facebookresearch/dinov2/archive/refs/heads/main.zip"] = _archive(FILES)
    recipe = {
        "modality": "image",
        "backbone": "hub/facebookresearch/dinov2@main+0123456789ab:small_vits14",
        "weights_sha256": "random:0",
        "precision": "fp32",
        "preprocessing": SMALL.to_recipe(),
        "outputs": [{"node": "penultimate", "pooling": "none"}],
    }
    for name in (recipe["backbone"], recipe["backbone"].replace("+0123456789ab", "")):
        for spelled in (name, name.replace("hub/", "HUB/")):
            with pytest.raises(RecipeError, match="code of others") as caught:
                registry.from_recipe({**recipe, "backbone": spelled})
            assert "bottleneck layers hub/facebookresearch/dinov2@main:small_vits14" in (
                caught.value.next
            )
    assert not asked
    # Once the user has named it, a recipe may: the same code, by its digest.
    entry = SOURCE.entry("facebookresearch/dinov2:small_vits14")
    found = registry.from_recipe({**recipe, "backbone": entry.name})
    assert found.entry.name == entry.name


def test_two_repositories_of_a_like_name_do_not_mix(github, tmp_path):
    """torch.hub's folder for both is a_b_c_main: one would run the other's code."""
    pages, asked = github
    for repo, classes in (("a/b_c", 3), ("a_b/c", 4)):
        code = HUBCONF + f"def net():\n    return torch.nn.Linear(6, {classes})\n"
        files = {**FILES, "dinov2-1a2b/hubconf.py": code}
        pages[f"/{repo}/archive/refs/heads/main.zip"] = _archive(files)
    found = [SOURCE.entry(name) for name in ("a/b_c:net", "a_b/c:net", "a/b_c:net", "a_b/c:net")]
    assert len({entry.notes for entry in found}) == 2
    assert len(asked) == 2
    for entry, classes in zip(found[:2], (3, 4), strict=True):
        folder = Path(entry.notes[0].rpartition(", in ")[2])
        assert hub_repository.build(folder, "net", digest_of(folder)).out_features == classes


def test_no_two_names_share_a_folder():
    parts = ("a", "b", "a_b", "b_c", "_", "a__b", "A", "a.b", "a%5fb", "v1/x", "v1_x", "ä")
    made = [
        hub_repository.own_folder(owner, repo, ref).name
        for owner in parts
        for repo in parts
        for ref in parts
        if "A" not in (owner, repo)  # GitHub's names are the same in capitals
    ]
    assert len(set(map(str.lower, made))) == len(made)
    assert not any("/" in name for name in made)


def test_a_folder_of_torch_hubs_is_taken_only_where_its_name_is_plain(github, tmp_path):
    hub = tmp_path / "torch" / "hub"
    hub.mkdir(parents=True)
    _clone(hub / "facebookresearch_dinov2_main")
    entry = SOURCE.entry("facebookresearch/dinov2:small_vits14")
    assert entry.notes == (
        f"runs the code of github.com/facebookresearch/dinov2 at main, in "
        f"{hub / 'facebookresearch_dinov2_main'}",
    )
    pages, asked = github
    assert asked == []
    _clone(hub / "a_b_c_main")
    with pytest.raises(WeightsError, match="a_b_c_main may be another repository's") as caught:
        SOURCE.entry("a/b_c:resnet18")
    assert "hub//PATH" in caught.value.next
    pages["/a/b_c/archive/refs/heads/main.zip"] = _archive(FILES)
    entry = SOURCE.entry("a/b_c:resnet18")
    assert "a_b_c_main is not used" in entry.notes[1]
    assert "bottleneck" in entry.notes[0]


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
    assert not [path for path in (tmp_path / "torch").rglob("*") if path.is_file()]


def test_a_page_that_is_no_archive_is_an_error(github):
    pages, _ = github
    pages["/a/b/archive/refs/heads/main.zip"] = b"<html>log in</html>"
    with pytest.raises(WeightsError):
        SOURCE.entry("a/b:resnet18")
