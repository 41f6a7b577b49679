"""What two editions of a declaration say differently, in words for a change board: not paths of a file, but what may move now.

One line is one change: ``+`` something new, ``-`` something gone, ``~`` something that reads otherwise. Hops come first, because
they are what moves data; notes of free text come too, since nobody signs what was not shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from hopwatch.declared.model import Architecture, Hop
from hopwatch.declared.quantity import Limit

SECTIONS: Final = {
    "hops": "",
    "budgets": "budget",
    "exceptions": "exception",
    "calendar": "calendar line",
    "accounts": "account",
    "data": "data",
    "classes": "class",
    "conduits": "conduit",
    "assets": "asset",
    "zones": "zone",
    "services": "service",
}
"""Sections in the order in which they are shown, and what stands before a name of each."""

_HEAD: Final = ("owner", "approved", "review_by", "timezone", "unlisted")


@dataclass(frozen=True, slots=True)
class Change:
    """One change. ``hop`` and the limits before and after say what past use belongs beside it."""

    sign: str
    name: str
    words: str
    hop: str | None = None
    before: Limit | None = None
    after: Limit | None = None


def changes(old: Architecture, new: Architecture) -> Iterator[Change]:
    """Everything that differs."""
    for section, kind in SECTIONS.items():
        before, after = _named(old, section), _named(new, section)
        hops = section == "hops"
        for name, entry in after.items():
            shown = f"{kind} {name}".strip()
            if name not in before:
                yield Change("+", shown, _new(new, section, entry), name if hops else None)
            elif entry != before[name]:
                for words, one, other in _fields(before[name], entry):
                    yield Change("~", shown, words, name if hops else None, one, other)
        for name in before:
            if name not in after:
                yield Change("-", f"{kind} {name}".strip(), "removed", name if hops else None)
    for field in ("plant", *_HEAD):
        if (was := getattr(old, field)) != (now := getattr(new, field)):
            yield Change("~", "declaration", f"{field} {_shown(was)} -> {_shown(now)}")


def _named(architecture: Architecture, section: str) -> Mapping[str, Any]:  # Any: each section has its own model
    """The entries of a section by what stands for them in both files; a list's by what they are about."""
    if section == "budgets":
        return {budget.title: budget for budget in architecture.budgets}
    if section == "calendar":
        return {f"{line.what} {line.when}": line for line in architecture.calendar}
    entries: Mapping[str, Any] = getattr(architecture, section)  # Any: as above
    return entries


def _new(architecture: Architecture, section: str, entry: Any) -> str:  # Any: an entry of any section
    match section:
        case "hops":
            return new_hop(architecture, entry)
        case "accounts":
            limits = f", {_listed(entry.limit)}" if entry.limit else ""
            return f"NEW {entry.kind} of {entry.owner}, from {_listed(entry.from_)}{limits}"
        case "budgets":
            return f"NEW {_listed(entry.limit)}"
        case "exceptions":
            what = entry.hop or f"{entry.account} on {entry.asset}"
            return f"NEW for {what}, {entry.when}" + (f", {_listed(entry.limit)}" if entry.limit else "") + f", {entry.ticket}"
        case "calendar":
            return f"NEW for {_listed(entry.hops)}" + (f", {entry.limit}" if entry.limit else "") + f", {entry.ticket}"
        case "zones":
            return f"NEW off-site zone of {entry.operator} in {entry.country}" if entry.off_site else "NEW"
    return "NEW: " + ", ".join(f"{name} {_shown(value)}" for name, value in _said(entry).items())


def new_hop(architecture: Architecture, hop: Hop) -> str:
    """``NEW off-site hop: inspection (quality) -> lake-eu (DE), 250 MiB / 1d, until 2026-12-31``."""
    hidden = _listed(glob.removeprefix("*.") for glob in hop.protect.pseudonymise)
    inside = f", contains pseudonymised {hidden}" if hidden else ""
    what = _listed(f"{name} ({architecture.data[name].class_}{inside})" for name in hop.what)
    off_site = architecture.off_site(hop)
    ends = [f"{zone} ({architecture.zones[zone].country})" for zone in architecture.zones_of(hop.to)] if off_site else hop.to
    where = f"{what} -> {_listed(dict.fromkeys(ends))}"
    return f"NEW {'off-site ' if off_site else ''}hop: {where}, {_listed(hop.limit)}, until {architecture.hop_until(hop)}"


def _fields(old: BaseModel, new: BaseModel) -> Iterator[tuple[str, Limit | None, Limit | None]]:
    """The words of each field that differs, and of a limit both."""
    for name, info in type(new).model_fields.items():
        was, now = getattr(old, name), getattr(new, name)
        if was == now:
            continue
        if name == "limit" and isinstance(now, tuple):
            yield from _limits(was, now)
        else:
            yield f"{info.alias or name} {_shown(was)} -> {_shown(now)}", None, None


def _limits(old: Sequence[Limit], new: Sequence[Limit]) -> Iterator[tuple[str, Limit | None, Limit | None]]:
    before = {limit.counts: limit for limit in old}
    for limit in new:
        was = before.pop(limit.counts, None)
        if was is None:
            yield f"limit {limit} added", None, limit
        elif was != limit:
            yield f"limit {_shorter(was, limit)} -> {limit}", was, limit
    for limit in before.values():
        yield f"limit {limit} removed", limit, None


def _shorter(was: Limit, now: Limit) -> str:
    """The old amount, without the unit where the new one says the same."""
    head, _, rest = str(was).partition(" ")
    return head if str(now).partition(" ")[2] == rest else str(was)


def _shown(value: Any) -> str:  # Any: whatever a field holds
    if isinstance(value, BaseModel):
        return "{" + ", ".join(f"{name}: {_shown(one)}" for name, one in _said(value).items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{_listed(value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(getattr(value, "key", value))


def _said(entry: BaseModel) -> dict[str, Any]:  # Any: as above
    """The fields that the file says, under its names."""
    fields = type(entry).model_fields
    return {info.alias or name: getattr(entry, name) for name, info in fields.items() if name in entry.model_fields_set}


def _listed(values: Any) -> str:  # Any: things whose text is what the file says
    return ", ".join(map(str, values))
