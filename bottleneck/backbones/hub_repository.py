"""Repositories of PyTorch Hub: their folder on this machine, and a network out of their ``hubconf.py``.

Building runs the repository's own code; nothing else here does.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import secrets
import shutil
import sys
import threading
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import BottleneckError, InputError, WeightsError
from . import folders
from .downloads import download, torch_hub_folder
from .hub_files import digest_of
from .hub_imports import import_hubconf, make_ready

GITHUB = "https://github.com"
_HUBCONF = "hubconf.py"
_BRANCHES = ("main", "master")
# A repository with more code than this is none.
_MOST_BYTES = 1 << 30
_LOCK = threading.Lock()


def check(folder: Path) -> None:
    """Raise an InputError for a folder that is no repository of PyTorch Hub."""
    if not (folder / _HUBCONF).is_file():
        raise InputError(
            f"{folder} has no {_HUBCONF}",
            expected="a clone of a repository of PyTorch Hub",
            where="--backbone",
            next="check the path",
        )


def own_folder(owner: str, repo: str, ref: str) -> Path:
    """Where we keep a branch or tag of a repository: a folder that no other one can share.

    torch.hub joins the three with underscores, so that ``a/b_c`` and ``a_b/c`` are one folder to it.
    """
    # GitHub's names are the same in capitals, branches are not, and some file systems know neither.
    parts = (owner.lower(), repo.lower(), ref)
    return torch_hub_folder() / "bottleneck" / "__".join(_escaped(part) for part in parts)


def _escaped(part: str) -> str:
    plain = b"abcdefghijklmnopqrstuvwxyz0123456789.-"
    return "".join(chr(byte) if byte in plain else f"%{byte:02x}" for byte in part.encode())


def torchs_folder(owner: str, repo: str, ref: str) -> Path:
    """Where torch.hub itself keeps a branch or tag."""
    return torch_hub_folder() / "_".join([owner, repo, ref.replace("/", "_")])


def cached(owner: str, repo: str, ref: str) -> tuple[Path, str] | None:
    """Where torch.hub or a run before this has put a repository, and the branch or tag it is at.

    torch.hub's folder counts only if its name can mean no other repository.
    """
    for each in [ref] if ref else list(_BRANCHES):
        theirs = torchs_folder(owner, repo, each)
        alone = theirs.name.count("_") == 2
        for folder in (own_folder(owner, repo, each), *([theirs] if alone else [])):
            if (folder / _HUBCONF).is_file():
                return folder, each
    return None


def passed_over(owner: str, repo: str, ref: str) -> Path | None:
    """A folder of torch.hub's that may be this repository or another of a like name."""
    for each in [ref] if ref else list(_BRANCHES):
        theirs = torchs_folder(owner, repo, each)
        if theirs.name.count("_") > 2 and (theirs / _HUBCONF).is_file():
            return theirs
    return None


def fetch(owner: str, repo: str, ref: str) -> tuple[Path, str]:
    """Download a branch or tag of a repository to `own_folder`, without running any of it.

    Parameters
    ----------
    owner, repo : str
    ref : str
        A branch or a tag; empty: ``main``, else ``master``. No commit: by its hash GitHub also gives
        out commits of other people's forks.

    Returns
    -------
    folder : pathlib.Path
    ref : str
    """
    if re.fullmatch(r"[0-9a-f]{40}", ref):
        raise InputError(
            f"{ref} is a commit",
            expected="a branch or a tag: by its hash, commits of others' forks can be had too",
            where="--backbone",
            next=f"git clone {GITHUB}/{owner}/{repo}, check it out there, and give hub//PATH:MODEL",
        )
    errors = []
    for each in [ref] if ref else list(_BRANCHES):
        for kind in ("heads", "tags") if ref else ("heads",):
            url = f"{GITHUB}/{owner}/{repo}/archive/refs/{kind}/{each}.zip"
            folder = own_folder(owner, repo, each)
            archive = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.zip")
            try:
                download(url, archive, expected=f"the code of {owner}/{repo} at {each}")
                _unpack(archive, folder)
                return folder, each
            except WeightsError as error:
                errors.append(error)
            finally:
                archive.unlink(missing_ok=True)
    other = passed_over(owner, repo, ref)
    unsure = f" ({other} may be another repository's: underscores)" if other else ""
    raise WeightsError(
        f"the code of {owner}/{repo} is not on this machine{unsure}, and {errors[0].what}",
        expected=errors[0].expected,
        where="--backbone",
        next=f"git clone {GITHUB}/{owner}/{repo} elsewhere, copy it over, and give "
        "--backbone hub//PATH/TO/CLONE:MODEL; its weights come from you as well, by --weights FILE",
    ) from errors[0]


def _unpack(archive: Path, folder: Path) -> None:
    """Put the one folder of a zip file at `folder`, all of it or nothing."""
    temporary = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.part")
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [each for each in opened.infolist() if not each.is_dir()]
            if sum(each.file_size for each in members) > _MOST_BYTES:
                raise InputError(f"{archive.name} unpacks to more than {_MOST_BYTES >> 30} GiB")
            for each in members:
                parts = PurePosixPath(each.filename).parts
                if each.filename.startswith("/") or ".." in parts or "\\" in each.filename:
                    raise InputError(f"{archive.name} would write to {each.filename}")
                target = temporary.joinpath(*parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(each) as source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file)
        temporary.rename(folder)
    except (zipfile.BadZipFile, OSError) as error:
        raise WeightsError(f"{archive.name} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def build(folder: Path, model: str, digest: str) -> Any:
    """What an entry point returns when it is asked for no pretrained weights.

    Parameters
    ----------
    folder : pathlib.Path
    model : str
    digest : str
        Of the clone, as the recipe has it: no other code is run under it.

    Raises
    ------
    InputError
        If there is no such entry point, the clone was edited since, or the repository's code fails.
    """
    import torch

    with _LOCK:
        if digest_of(folder) != digest:
            raise folders.changed(f"hub/{folder.name}:{model}", digest, "files")
        make_ready(folder, digest)
        try:
            # What it prints would stand between what --json prints.
            with torch.hub._add_to_sys_path(str(folder)), contextlib.redirect_stdout(sys.stderr):
                # As `torch.hub.load` does it for a folder, with one look in between.
                hubconf = import_hubconf(folder)
                _check_model(folder, hubconf, model)
                entry = torch.hub._load_entry_from_hubconf(hubconf, model)
                network = entry(**_untrained(entry))
        except BottleneckError:
            raise
        # Whatever somebody else's code may raise.
        except Exception as error:
            raise InputError(
                f"the code of {folder.name} fails at {model}: {type(error).__name__}: {error}",
                expected="an entry point that needs no other argument than `pretrained`",
                where="--backbone",
                next="what it needs stands in its README; its packages have to be installed",
            ) from error
    if not isinstance(network, torch.nn.Module):
        raise InputError(
            f"{model} of {folder.name} gives {type(network).__name__}",
            expected="a torch.nn.Module",
            where="--backbone",
        )
    return network


def _check_model(folder: Path, hubconf: Any, model: str) -> None:
    names = [n for n, value in vars(hubconf).items() if callable(value) and not n.startswith("_")]
    if model not in names:
        raise InputError(
            f"{folder.name} has no entry point {model!r}",
            expected=", ".join(names[:20]) or "functions in its hubconf.py",
            where="--backbone",
            next="give one of these behind the colon",
        )


def _untrained(entry: Any) -> dict[str, Any]:
    """Arguments that keep an entry point from fetching weights, by the two customs there are."""
    try:
        names = inspect.signature(entry).parameters
    except (TypeError, ValueError):
        return {"pretrained": False}
    if "pretrained" in names:
        return {"pretrained": False}
    return {"weights": None} if "weights" in names else {}
