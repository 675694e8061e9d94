"""``manifest.json``: what a directory of features consists of, as `Manifest`, and its bytes."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from blake3 import blake3

from ..._version import __version__
from ...recipe import canonical_json
from ...remote.urls import is_url
from ..layout import Header
from ..locate import MANIFEST

FORMAT = "bottleneck-directory"
FORMAT_VERSION = 1
# A thousand shards take 0.3 MB; the rest is room for classes and for rows that no longer count.
MAX_BYTES = 64 << 20
MAX_SHARDS = 1 << 16
KINDS = ("text", "number")
NAME_DIGITS = 32
# The only names that a manifest can give: content, so never a path, a device or a hidden file.
NAME = re.compile(r"[0-9a-f]{32}\.(h5|json)")
SHARD = re.compile(r"[0-9a-f]{32}\.h5")


@dataclass(frozen=True)
class Part:
    """One file of the directory, named by its content.

    Parameters
    ----------
    name : str
        The first 32 digits of `blake3`, and ``.h5`` or ``.json``.
    bytes : int
    blake3 : str
        Of the whole file, 64 hexadecimal digits.
    """

    name: str
    bytes: int
    blake3: str


@dataclass(frozen=True)
class Shard(Part):
    """One feature file of the directory.

    Parameters
    ----------
    rows : int
        All rows of the file, those that no longer count included.
    fingerprint : str
        Of its dataset ``features``.
    content : str
        What changes with the file's rows: its ``content_without_stat``, else its ``content``.
    meta : tuple of str
        Columns that count for its rows; for any other column they have no value.
    dead : tuple of (int, int)
        Runs of rows (first, one past the last) that do not count any more: their image is gone, or
        a later shard has its row.
    """

    rows: int
    fingerprint: str
    content: str
    meta: tuple[str, ...] = ()
    dead: tuple[tuple[int, int], ...] = ()

    @property
    def alive(self) -> int:
        """Rows that count."""
        return self.rows - sum(stop - start for start, stop in self.dead)


@dataclass(frozen=True)
class Manifest:
    """What a directory of features consists of.

    Parameters
    ----------
    header : Header
        Of all rows; its `store` and `recipe` are those of every shard, its `root` counts instead of theirs.
    classes : list of str
        Of all rows, ordered by their bytes.
    shards : tuple of Shard
        In the order in which they were added: of equal paths the rows of the later one count.
    meta : tuple of (str, str)
        Columns in their order, and ``text`` or ``number``.
    task : str, default 'classification'
    phash : bool, default False
        Whether every row has a perceptual hash.
    lists : Part or None
        The quarantine, and the files that are no images (`lists.Lists`).
    """

    header: Header
    classes: list[str]
    shards: tuple[Shard, ...]
    meta: tuple[tuple[str, str], ...] = ()
    task: str = "classification"
    phash: bool = False
    lists: Part | None = None

    @property
    def rows(self) -> int:
        """Rows that count, over all shards."""
        return sum(shard.alive for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Of all its files but the manifest."""
        return sum(part.bytes for part in self.parts())

    def parts(self) -> list[Part]:
        """All files that it lists."""
        return [*self.shards, *([self.lists] if self.lists else [])]


def mended(name: str) -> str:
    """What can be done about a directory with a shard that is missing or damaged."""
    saving = f"`bottleneck cache repair {name} -o NEW/` saves all other rows; or "
    return (
        f"restore it from a backup; or {'' if is_url(name) else saving}"
        "`bottleneck extract` with --force begins anew"
    )


def without_manifest(name: str) -> str:
    """What can be done about a directory whose manifest is gone or damaged."""
    saving = (
        f"; without it, `bottleneck cache repair {name} -o NEW/` saves every row of every shard, also "
        "those that had been removed or replaced"
    )
    return f"restore {MANIFEST} from a backup{'' if is_url(name) else saving}"


def encode(manifest: Manifest) -> bytes:
    """The bytes of ``manifest.json``: equal manifests give equal bytes."""
    header = manifest.header
    data = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created_by": f"bottleneck-probe {__version__}",
        "recipe": header.recipe,
        "environment": header.environment,
        "fingerprint": header.fingerprint,
        "root": header.root,
        "store": header.store,
        "rows": manifest.rows,
        "classes": manifest.classes,
        "task": manifest.task,
        "meta": [list(column) for column in manifest.meta],
        "phash": manifest.phash,
        "lists": None if manifest.lists is None else asdict(manifest.lists),
        "shards": [
            {
                **asdict(shard),
                "meta": list(shard.meta),
                "dead": [list(run) for run in shard.dead],
            }
            for shard in manifest.shards
        ],
    }
    data["checksum"] = blake3(canonical_json(data)).hexdigest()
    return canonical_json(data) + b"\n"
