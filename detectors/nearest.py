"""Which approved hop a flow that joins none comes nearest to: what a person compares it with.

First the hops of the same server asset (those with a conduit before the others if the flow crosses zones), else those of the same
account, else of the same class, else those whose data starts at the same asset, else all; among them the one with the fewest
differing questions; then file order.
"""

from collections.abc import Callable, Iterable
from typing import Final

from detectors.compare import Seen
from detectors.judgement import Opinion
from hopwatch.declared.match import Index

CANDIDATES_MAX: Final = 64
"""Hops compared for one flow; a person wants one near hop, not the proof that none of thousands is nearer."""


def nearest(index: Index, seen: Seen, classes: Iterable[str], opine: Callable[[str], Opinion]) -> Opinion | None:
    """The opinion of the nearest hop; None if the declaration has none to compare with."""
    crosses = seen.server.zone != seen.client.zone
    best: Opinion | None = None
    best_rank: tuple[int, int, int] | None = None
    for place in _candidates(index, seen, classes):
        name, hop = index.hops[place]
        opinion = opine(name)
        differing = len({one.question for one in opinion.differing})
        rank = (int(crosses and hop.via is None), differing, place)
        if best_rank is None or rank < best_rank:
            best, best_rank = opinion, rank
    return best


def _candidates(index: Index, seen: Seen, classes: Iterable[str]) -> list[int]:
    for found in (index.hops_at(seen.server.asset or seen.server.host), index.hops_of(seen.declared_account)):
        if found:
            return list(found[:CANDIDATES_MAX])
    by_class = sorted({place for name in classes for place in index.hops_with(name)[:CANDIDATES_MAX]})
    if by_class:
        return by_class[:CANDIDATES_MAX]
    start = seen.source.asset or seen.source.host
    starting = [place for place in index.hops_at(start) if start in index.hops[place][1].from_]
    return (starting or list(range(len(index.hops))))[:CANDIDATES_MAX]
