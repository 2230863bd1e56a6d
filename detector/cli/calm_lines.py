"""How calm the alerts of a replay were, in words and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from detector.inspection.facts import period
from detector.ports import Observer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from detector.codec.readings import Decoded
    from detector.core.batch_result import BatchResult
    from detector.lab.calm import Calm, CalmTally

SECOND_US = 1e6


class CalmObserver(Observer):
    """Adds every batch of a replay to a tally."""

    def __init__(self, tally: CalmTally) -> None:
        self._tally = tally

    def observe(self, decoded: Decoded, result: BatchResult, seconds: Mapping[str, float]) -> None:
        """See `ports.Observer`."""
        self._tally.add(decoded.batch, result)


def lines(calm: Calm, budget: str, period_s: float) -> list[str]:
    """For a person. budget: as the configuration writes it; period_s: event time of a stream per alert that it accepts"""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in calm.opened.items()) or "none"
    said = [f"{calm.inside_share:.1%} of the readings are inside an open alert; alerts: {kinds}"]
    if calm.lengths_s:
        is_open = f"; {calm.still_open:,} open at the end" if calm.still_open else ""
        said.append(
            f"open for {period(calm.median_s * SECOND_US)} at the median, {period(calm.longest_s * SECOND_US)} at the longest{is_open}"
        )
    if (over := calm.over_budget(period_s)) == over:
        said.append(f"{over:.2g} times the budget, {budget}; true alerts count as well")
    if calm.named:
        said.append(f"{calm.outside:,} of {calm.named:,} alerts name a channel outside its band first")
    return [f"{'calm' if not place else '':<10} {text}" for place, text in enumerate(said)]


def as_json(calm: Calm, period_s: float) -> dict[str, Any]:
    """The same figures; what is not known is null."""
    return {
        "inside_share": calm.inside_share,
        "opened": calm.opened,
        "median_s": calm.median_s,
        "longest_s": calm.longest_s,
        "still_open": calm.still_open,
        "over_budget": calm.over_budget(period_s),
        "named": calm.named,
        "named_outside_band": calm.outside,
    }
