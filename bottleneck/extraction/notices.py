"""What a user should know about how the images were framed and scaled, in a sentence each."""

from __future__ import annotations

import numpy as np

from ..backbones.base import Backbone
from ..reporter import Reporter
from .pipeline import Outcome

# From this share on it is worth a thought that the network does not see it.
_WORTH_TELLING = 0.05
_NARROW = 0.1


def tell_framing(backbone: Backbone, outcome: Outcome, reporter: Reporter) -> None:
    """Say what lies outside the crop, or in further frames, and warn of images of a narrow range.

    Parameters
    ----------
    backbone : Backbone
    outcome : Outcome
        Of a run; only images that were decoded in it are known.
    reporter : Reporter
    """
    outside = np.asarray(outcome.outside)
    if len(outside) and np.median(outside) >= _WORTH_TELLING:
        reporter.note(
            f"{np.median(outside):.0%} of the median image, and up to {outside.max():.0%}, lies "
            f"outside the centre crop of {backbone.entry.name}; --framing whole or pad shows the "
            "network all of it"
        )
    if outcome.several:
        files = "1 file holds" if outcome.several == 1 else f"{outcome.several} files hold"
        reporter.note(f"{files} several frames or pages: the first one is used")
    narrow = np.asarray(outcome.narrow)
    narrow = narrow[narrow < _NARROW]
    if len(narrow):
        reporter.warn(
            f"{len(narrow)} of {len(outcome.narrow)} images with more than 8 bits use less than "
            f"{_NARROW:.0%} of their range (median {np.median(narrow):.1%}): nearly black to the "
            "network; --range bits:12 or LOW:HIGH spreads them"
        )
