"""Which hops decide nothing: everything they allow, another hop of the same account allows as well.

Such a hop is no error, but it is not what its owner thinks it is: removing it, or narrowing it, stops nothing (Al-Shaer and Hamed
2004 call a firewall's rule like that *shadowed* or *redundant*). How much a hop may move is not looked at: of two hops that allow
the same movement either may be charged, so the sum of both limits is what holds.
"""

from collections.abc import Iterator

from hopwatch.declared.model import TRANSIT_ORDER, Architecture, Hop, glob_covers


def overshadowed(architecture: Architecture) -> Iterator[tuple[str, str]]:
    """Each hop that decides nothing, and the hop that covers it; of two that are the same, the later one in the file."""
    by_account: dict[str, list[str]] = {}
    for name, hop in architecture.hops.items():
        by_account.setdefault(hop.who, []).append(name)
    order = {name: place for place, name in enumerate(architecture.hops)}
    for name, hop in architecture.hops.items():
        for other in by_account[hop.who]:
            wider = architecture.hops[other]
            if other == name or not _covers(architecture, wider, hop):
                continue
            if order[other] < order[name] or not _covers(architecture, hop, wider):
                yield name, other
                break


def _covers(architecture: Architecture, wider: Hop, hop: Hop) -> bool:
    """Whether whatever ``hop`` allows on any day, ``wider`` allows on that day too."""
    return (
        _inside(architecture, hop.from_, wider.from_)
        and _inside(architecture, hop.to, wider.to)
        and set(hop.may) <= set(wider.may)
        and set(hop.what) <= set(wider.what)
        and all(any(glob_covers(own, glob) for own in hop.without) for glob in wider.without)
        and (wider.when is None or wider.when == hop.when)
        and architecture.hop_until(hop) <= architecture.hop_until(wider)
        and TRANSIT_ORDER.index(architecture.hop_transit(wider)) <= TRANSIT_ORDER.index(architecture.hop_transit(hop))
    )


def _inside(architecture: Architecture, ends: list[str], of: list[str]) -> bool:
    """Whether every end is one of the others, or an asset in a zone that is."""
    return all(end in of or (end in architecture.assets and architecture.assets[end].zone in of) for end in ends)
