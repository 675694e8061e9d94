"""What a user should know about how the images were framed and scaled, in a sentence each."""

from __future__ import annotations

from statistics import median

from ..backbones.base import Backbone
from ..reporter import Reporter
from .pipeline import Outcome

# From this share on it is worth a thought that the network does not see it.
_WORTH_TELLING = 0.05
_NARROW = 0.1


def tell_framing(backbone: Backbone, outcome: Outcome, reporter: Reporter) -> None:
    """Say what lies outside the crop, and warn of images that use a sliver of their range.

    Parameters
    ----------
    backbone : Backbone
    outcome : Outcome
        Of a run; only images that were decoded in it are known.
    reporter : Reporter
    """
    if outcome.outside and median(outcome.outside) >= _WORTH_TELLING:
        reporter.note(
            f"{median(outcome.outside):.0%} of the median image, and up to "
            f"{max(outcome.outside):.0%}, lies outside the centre crop of "
            f"{backbone.entry.name}; --framing whole or pad shows the network all of it"
        )
    narrow = [share for share in outcome.narrow if share < _NARROW]
    if narrow:
        reporter.warn(
            f"{len(narrow)} of {len(outcome.narrow)} images with more than 8 bits use less than "
            f"{_NARROW:.0%} of their range (median {median(narrow):.1%}): nearly black to the "
            "network; --range bits:12 or LOW:HIGH spreads them"
        )
