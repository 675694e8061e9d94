"""The parts folder beside a feature file: which finished rows lie in it, without touching any."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CacheError
from .keys import KeyIndex
from .sealed import Shard, open_shard, why_torn


@dataclass
class Leftovers:
    """What a run that did not end has left.

    Attributes
    ----------
    folder : Path
    shards : list of (Shard, ndarray of shape (m, 32), uint8, str)
        Whole ones: where they are, their keys, their fingerprint.
    torn : list of (str, str)
        Name and reason of those that cannot be used.
    """

    folder: Path
    shards: list[tuple[Shard, np.ndarray, str]] = field(default_factory=list)
    torn: list[tuple[str, str]] = field(default_factory=list)

    def summary(self, fingerprints: Collection[str], keys: np.ndarray | None) -> dict[str, Any]:
        """Counts: what the next run takes, what it sets aside, what is of another recipe.

        Parameters
        ----------
        fingerprints : collection of str
            Those of the file's outputs; empty if there is no file.
        keys : ndarray of shape (n, 32), uint8, or None
            Of the file's rows: features of these keys are there already.
        """
        ours = [each for each in self.shards if not fingerprints or each[2] in fingerprints]
        known = KeyIndex(keys) if keys is not None and len(keys) else None
        new: set[bytes] = set()
        for _, found, _ in ours:
            missing = found if known is None else found[known.rows(found) < 0]
            new |= {key.tobytes() for key in missing}
        return {
            "folder": str(self.folder),
            "shards": len(ours),
            "rows": sum(len(found) for _, found, _ in ours),
            "images_not_in_the_file": len(new),
            "torn": [name for name, _ in self.torn],
            "of_another_recipe": len(self.shards) - len(ours),
        }


def leftovers(folder: Path) -> Leftovers | None:
    """What lies in a parts folder; None if there is none."""
    if not folder.is_dir():
        return None
    found = Leftovers(folder)
    for path in sorted(folder.glob("*.h5")):
        try:
            reason = why_torn(path)
            if not reason:
                found.shards.append(open_shard(path))
                continue
        except CacheError as error:
            reason = error.what
        found.torn.append((path.name, reason))
    found.torn += [(path.name, "set aside") for path in sorted(folder.glob("*.bad"))]
    return found
