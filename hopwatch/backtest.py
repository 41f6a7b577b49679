"""``hopwatch declared hits|backtest|diff|draft``: a declaration held against what the store keeps of the last days.

Exit codes: 0 nothing to look at, 1 something (``hits``: a line is unseen, broad or drifting; ``backtest``: findings would appear;
``diff``: the editions differ), 2 the input is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from detectors.hygiene import BROAD_SHARE, DRIFTING_SHARE
from detectors.silence import UNSEEN_DAYS
from detectors.units import DAY_NS
from hopwatch.config import NO_STORE, settings
from hopwatch.declared import table
from hopwatch.declared.diff import Change, changes
from hopwatch.declared.draft import draft
from hopwatch.declared.load import FILE_BYTES_MAX, decoded, load, loads
from hopwatch.declared.model import Architecture
from hopwatch.declared.own import own
from hopwatch.declared.problem import ArchitectureError, Problem
from hopwatch.declared.quantity import Limit, Period, Unit
from hopwatch.declared.shadow import overshadowed
from hopwatch.events import time_ns, time_text
from hopwatch.history import Case, Comparison, Identity, Judge, Names, Stretch, Use, pseudonyms, replayed, said_now, said_then, stretch
from hopwatch.own import moves
from hopwatch.store import Reader, StoreError
from hopwatch.store.reader import is_postgres, reader

NOTHING, FOUND = 0, 1

PROGRESS_S: Final = 5.0
CASES_SHOWN_MAX: Final = 50
"""Findings of one kind that are listed to a person; ``--json`` has them all."""

SELF: Final = "self"
"""In the place of a finding: what hopwatch itself moves."""

DRAFT_FLOWS_MAX: Final = 1_000
"""Windows of a finding that a draft learns operations and protocol from."""

_OF_A_LIMIT: Final = ("over", "drifting", "broad")
_GIT_TIMEOUT_S: Final = 10.0


def run(args: argparse.Namespace) -> int:
    """Run the command that was parsed.

    Raises:
        ArchitectureError: a declaration is refused.
        StoreError: the store or its key is not there, or holds nothing of the plant.
    """
    return {"hits": _hits, "backtest": _backtest, "diff": _diff, "draft": _draft}[args.declared_command](args)


# draft


def _draft(args: argparse.Namespace) -> int:
    """The hop that would approve what a finding saw: text to review, on standard output and nowhere else."""
    chosen = settings({"store": args.store, "key": args.key, "declaration": args.file}, args.config)
    if chosen.declaration is None:
        raise StoreError("declared draft: a declaration is needed: -d plant.yaml")
    architecture = load(chosen.declaration, at=args.at, approvers=args.approvers)
    if args.finding == SELF:
        print(own(architecture, moves(args.config), args.host), end="")
        return NOTHING
    if args.host is not None:
        raise StoreError("declared draft: --host belongs to `draft self`")
    opened = reader(chosen.store, chosen.key)
    try:
        record = opened.find(args.finding)
        if record["kind"] != "finding":
            raise StoreError(f"id {args.finding}: is a {record['kind']}, expected a finding")
        print(draft(architecture, record, opened.flows_of(record["finding_id"], DRAFT_FLOWS_MAX)), end="")
    finally:
        opened.close()
    return NOTHING


# hits


def _hits(args: argparse.Namespace) -> int:
    architecture = load(args.file, at=args.at, approvers=args.approvers)
    with _store(args) as (store, key):
        when = stretch(store, architecture.plant, args.days, args.until)
        names = Names(pseudonyms(key).made, [architecture])
        judge = Judge(architecture, args.at)
        use = Use(judge, summed=True)
        progress = Progress(when)
        first_ns = when.until_ns
        for window in replayed(store, architecture.plant, when, names):
            judgement = judge.judged(window.event)
            if judgement is not None:
                first_ns = min(first_ns, judgement.flow.start_ns)
                use.add(judgement)
                progress.at(judgement.flow.start)
    covered = min(when.days, -(-(when.until_ns - first_ns) // DAY_NS))
    rows = list(_rows(architecture, use, covered))
    if args.json:
        for row in rows:
            print(json.dumps({"kind": "line", **row}, ensure_ascii=False))
        for (first, second, unit), peak in sorted(use.sums.items()):
            what = {"class": first, "to": second} if second else {"owner": first}
            print(json.dumps({"kind": "moved", **what, "unit": unit, "most_in_30_days": peak.used, "at": time_text(peak.at_ns)}))
        print(
            json.dumps({"kind": "hits", **_about(architecture, when), "days_held": covered, "windows": use.windows} | _doubts(when, names))
        )
    else:
        print(f"{table.heading(architecture)}\n{_span(when)}: {use.windows} windows on {covered} of {when.days} days\n")
        _print_rows(rows)
        _print_sums(architecture, use)
        _print_doubts(when, names)
    return FOUND if any(row["remarks"] for row in rows) else NOTHING


def _rows(architecture: Architecture, use: Use, covered: int) -> Iterator[dict[str, Any]]:  # Any: JSON values
    """One row for each line of the file that can be used, and for each limit under it."""
    shadows = dict(overshadowed(architecture))
    since = {name: hop.approved.date for name, hop in architecture.hops.items() if hop.approved is not None}

    def row(
        section: str, name: str, place: tuple[str, ...], limits: Sequence[tuple[Limit, str]], known_as: str = ""
    ) -> dict[str, Any]:  # Any: JSON values
        line = use.line(section, known_as or name)
        remarks = []
        counted = [(limit, use.peak(key)) for limit, key in limits]
        asked_for = section in ("hops", "services") or (section == "accounts" and architecture.accounts[name].needs is None)
        if not line.windows and asked_for and covered >= UNSEEN_DAYS:
            remarks.append("unseen")
        if section == "hops" and name in shadows:
            remarks.append(f"overshadowed by {shadows[name]}")
        said = []
        for limit, peak in counted:
            share = peak.used / limit.amount if limit.amount else 0.0
            word = ""
            if share > 1:
                word = "over"
            elif share > DRIFTING_SHARE:
                word = "drifting"
            elif section == "hops" and 0 < share < BROAD_SHARE and covered >= UNSEEN_DAYS:
                word = "broad"
            if word:
                remarks.append(word)
            at = time_text(peak.at_ns) if peak.used else None
            said.append(
                {"limit": str(limit), "unit": limit.unit.value, "peak": peak.used, "share": round(share, 4), "at": at, "remark": word}
            )
        return {
            "section": section,
            "name": name,
            "line": architecture.lines.get(place, 1),
            "windows": line.windows,
            "differing": line.differing,
            "days": len(line.days),
            "last_use": time_text(line.last_ns) if line.windows else None,
            "approved": str(since[name]) if section == "hops" and since.get(name) else None,
            "limits": said,
            "remarks": list(dict.fromkeys(remarks)),
        }

    def keyed(prefix: str, limits: Sequence[Limit]) -> list[tuple[Limit, str]]:
        return [(limit, f"{prefix}#{limit.unit}/{limit.period}") for limit in limits]

    for name, hop in architecture.hops.items():
        yield row("hops", name, ("hops", name), keyed(f"hop:{name}", hop.limit))
    for place, budget in enumerate(architecture.budgets):
        key = f"{budget.class_}|{budget.owner}|{budget.to}"
        yield row("budgets", budget.title, ("budgets", str(place)), keyed(f"budget:{key}", budget.limit), key)
    for name, account in architecture.accounts.items():
        limits = [
            one for limit in account.limit for one in keyed(f"{'session' if limit.period is Period.SESSION else 'account'}:{name}", [limit])
        ]
        yield row("accounts", name, ("accounts", name), limits)
    for name in architecture.services:
        yield row("services", name, ("services", name), ())
    for name in architecture.exceptions:
        yield row("exceptions", name, ("exceptions", name), ())
    for place, line in enumerate(architecture.calendar):
        yield row("calendar", line.what, ("calendar", str(place)), (), f"{line.ticket}|{line.what}")


def _print_rows(rows: Sequence[dict[str, Any]]) -> None:  # Any: JSON values
    wide = min(max((len(row["name"]) for row in rows), default=0), 40)
    print(f"{'line':>5}  {'':{wide}} {'windows':>9} {'days':>5}  {'last use':20}  peak")
    section = ""
    for row in rows:
        if row["section"] != section:
            section = row["section"]
            print(f"       {section}")
        last = (row["last_use"] or "never")[:19] + ("Z" if row["last_use"] else "")
        said = [one.upper() for one in row["remarks"] if one not in _OF_A_LIMIT]
        said += [_peak_said(one) for one in row["limits"] if one["peak"]]
        said += [f"{row['differing']} windows that differ"] if row["differing"] else []
        head = f"{row['line']:>5}  {row['name']:{wide}} {row['windows']:>9} {row['days']:>5}  {last:20}  "
        print(f"{head}{said[0] if said else ''}".rstrip())
        for more in said[1:]:
            print(f"{'':{len(head)}}{more}")


def _peak_said(one: dict[str, Any]) -> str:  # Any: JSON values
    at = f" on {one['at'][:10]}" if one["at"] else ""
    mark = f"  {one['remark'].upper()}" if one["remark"] else ""
    return f"{amount(one['peak'], Unit(one['unit']))} of {one['limit']}: {one['share']:.0%}{at}{mark}"


def _print_sums(architecture: Architecture, use: Use) -> None:
    """What every class sent to every zone, and what every owner moved: where no budget is declared, what one could say."""
    budgeted = {(budget.class_ or budget.owner or "", limit.unit) for budget in architecture.budgets for limit in budget.limit
                if limit.period is Period.MONTH}  # fmt: skip
    if not use.sums:
        return
    print("\n       most in 30 days, over all hops")
    for (first, second, unit), peak in sorted(use.sums.items(), key=lambda one: (not one[0][1], one[0])):
        what = f"{first} to {second}" if second else f"owner {first}"
        without = "" if (first, Unit(unit)) in budgeted else "  no 30d budget"
        print(f"       {what:34} {amount(peak.used, Unit(unit)):>12}{without}")


# backtest


def _backtest(args: argparse.Namespace) -> int:
    architecture = load(args.file, at=args.at, approvers=args.approvers)
    against = None if args.against is None else _edition(args.against, args.file, args)
    with _store(args) as (store, key):
        when, names, comparison, _, _ = _compared(store, key, against, architecture, args)
    if args.json:
        _print_json(comparison)
        print(json.dumps({"kind": "backtest", **_about(architecture, when), **_counts(comparison)} | _doubts(when, names)))
    else:
        then = "what was said then" if against is None else table.heading(against)
        print(f"{table.heading(architecture)}\nagainst {then}")
        print(f"{_span(when)}: {comparison.windows} windows, {comparison.changed} judged otherwise\n")
        _print_cases("would appear", comparison.appearing())
        _print_cases("would disappear", comparison.disappearing())
        for identity, was, now in comparison.heavier():
            words = f"{was.severity}, {was.windows} windows -> {now.severity}, {now.windows} windows"
            print(f"~ {_named(identity, now)}: {words}")
        print(_effect(comparison, when))
        _print_comparison_doubts(comparison)
        _print_doubts(when, names)
    return FOUND if comparison.appearing() else NOTHING


def _compared(
    store: Reader, key: Path, old: Architecture | None, new: Architecture, args: argparse.Namespace
) -> tuple[Stretch, Names, Comparison, Use | None, Use]:
    """What ``old``, or without it the day itself, and ``new`` say of every window of the stretch, and how either was used."""
    both = [new] if old is None else [old, new]
    when = stretch(store, new.plant, args.days, args.until, both)
    names = Names(pseudonyms(key).made, both)
    before = None if old is None else Judge(old, args.at)
    after = Judge(new, args.at)
    comparison, was_used, is_used = Comparison(), None if before is None else Use(before), Use(after)
    progress = Progress(when)
    for window in replayed(store, new.plant, when, names):
        then = None if before is None else before.judged(window.event)
        judgement = after.judged(window.event)
        if judgement is None:
            continue
        progress.at(judgement.flow.start)
        if judgement.flow.start_ns < when.since_ns:
            continue
        is_used.add(judgement)
        if was_used is not None and then is not None:
            was_used.add(then)
        comparison.add(judgement, said_then(window.said) if then is None else said_now(then), strange=window.strange)
    return when, names, comparison, was_used, is_used


def _print_json(comparison: Comparison) -> None:
    for effect, cases in (("appears", comparison.appearing()), ("disappears", comparison.disappearing())):
        for identity, case in cases:
            print(json.dumps({"kind": "effect", "effect": effect, **_case(identity, case)}, ensure_ascii=False))
    for identity, was, now in comparison.heavier():
        more = {"was": {"severity": was.severity, "windows": was.windows}}
        print(json.dumps({"kind": "effect", "effect": "changes", **_case(identity, now), **more}, ensure_ascii=False))


def _case(identity: Identity, case: Case) -> dict[str, Any]:  # Any: JSON values
    verdict, who, _, hop = identity
    return {
        "verdict": verdict,
        "severity": case.severity,
        "who": who or None,
        "source": case.source,
        "destination": case.destination,
        "hop": hop or None,
        "windows": case.windows,
        "rows": case.rows,
        "bytes": case.bytes,
        "first_seen": case.first,
        "last_seen": case.last,
        "differences": [{"question": q, "declared": d, "observed": o} for (q, d), o in case.differences.items()],
    }


def _print_cases(effect: str, cases: Sequence[tuple[Identity, Case]]) -> None:
    sign = "+" if effect == "would appear" else "-"
    for identity, case in cases[:CASES_SHOWN_MAX]:
        print(f"{sign} {case.severity.upper():9} {_named(identity, case)}: {case.windows} windows, {case.first[:19]}Z to {case.last[:19]}Z")
        for (question, declared), observed in case.differences.items():
            print(f"    {question:10} {declared} -> {observed}")
    if len(cases) > CASES_SHOWN_MAX:
        print(f"{sign} and {len(cases) - CASES_SHOWN_MAX} more that {effect}")


def _named(identity: Identity, case: Case) -> str:
    verdict, who, _, hop = identity
    return f"{verdict}  {who or 'anyone'}  {case.source} -> {case.destination}" + (f"  ({hop})" if hop else "")


def _counts(comparison: Comparison) -> dict[str, int]:
    return {
        "windows": comparison.windows,
        "changed": comparison.changed,
        "appear": len(comparison.appearing()),
        "disappear": len(comparison.disappearing()),
        "remain": len(comparison.before.cases.keys() & comparison.after.cases.keys()),
        "aside": comparison.aside,
        "unjudged": comparison.unjudged,
        "beyond": comparison.before.beyond + comparison.after.beyond,
    }


def _effect(comparison: Comparison, when: Stretch) -> str:
    gone, new = len(comparison.disappearing()), len(comparison.appearing())
    return f"effect on the last {when.days} days of traffic: {gone} finding{'' if gone == 1 else 's'} would disappear, {new} would appear"


# diff


def _diff(args: argparse.Namespace) -> int:
    old, new = _editions(args)
    found = list(changes(old, new))
    measured = None
    if old.plant == new.plant:
        with _store(args, needed=args.store is not None) as opened:
            if opened is not None:
                store, key = opened
                measured = _compared(store, key, old, new, args)
    used = None if measured is None else measured[3]
    if args.json:
        for change in found:
            print(json.dumps({"kind": "change", **_changed(change, used)}, ensure_ascii=False))
        about = {"old": old.version, "new": new.version, "plant": new.plant, "changes": len(found)}
        if measured is not None:
            _print_json(measured[2])
            about |= _counts(measured[2]) | _doubts(measured[0], measured[1])
        print(json.dumps({"kind": "diff", **about}, ensure_ascii=False))
    else:
        print(f"{table.heading(old)}  ->  {table.heading(new)}\n")
        for change in found:
            note = _note(change, used, args.days)
            print(f"{change.sign} {change.name:24} {change.words}{note}")
        if not found:
            print("nothing differs")
        if measured is None:
            print("  effect on traffic unknown: " + ("another plant" if old.plant != new.plant else "no store (--store)"))
        else:
            print(f"  {_effect(measured[2], measured[0])}")
            _print_cases("would appear", measured[2].appearing())
            _print_cases("would disappear", measured[2].disappearing())
            _print_comparison_doubts(measured[2])
            _print_doubts(measured[0], measured[1])
    return FOUND if found else NOTHING


def _changed(change: Change, used: Use | None) -> dict[str, Any]:  # Any: JSON values
    said: dict[str, Any] = {"sign": change.sign, "name": change.name, "words": change.words}  # Any: JSON values
    if used is not None and change.hop is not None:
        line = used.line("hops", change.hop)
        said |= {"windows": line.windows, "last_use": time_text(line.last_ns) if line.windows else None}
        limit = change.before or change.after
        if limit is not None:
            said["peak"] = used.peak(f"hop:{change.hop}#{limit.unit}/{limit.period}").used
    return said


def _note(change: Change, used: Use | None, days: int) -> str:
    """What past use says of the change."""
    if used is None or change.hop is None or change.sign == "+":
        return ""
    line = used.line("hops", change.hop)
    if change.sign == "-":
        return f"; last used {time_text(line.last_ns)[:10]}" if line.windows else f"; not used in the last {days} days"
    limit = change.before
    if limit is None:
        return ""
    peak = used.peak(f"hop:{change.hop}#{limit.unit}/{limit.period}").used
    if not peak:
        return f"   (not used in the last {days} days)"
    said = f"used at most {amount(peak, limit.unit)} in the last {days} days"
    if change.after is not None and change.after.amount < peak:
        return f"   ({said}: too narrow for that)"
    if change.after is not None and change.after.amount > limit.amount and peak <= DRIFTING_SHARE * limit.amount:
        return f"   ({said}: looser than needed)"
    return f"   ({said})"


def _editions(args: argparse.Namespace) -> tuple[Architecture, Architecture]:
    """The two editions: ``OLD NEW``, ``OLD..NEW``, or ``REVISION..[REVISION] FILE``."""
    first, *rest = args.compared
    if len(rest) == 1 and Path(first).is_file() and Path(rest[0]).is_file():
        return _edition(first, Path(first), args), _edition(rest[0], Path(rest[0]), args)
    cuts = [place for place in range(1, len(first) - 1) if first[place : place + 2] == ".."]
    for cut in cuts:
        old, new = first[:cut], first[cut + 2 :]
        if not rest and Path(old).is_file() and Path(new).is_file():
            return _edition(old, Path(old), args), _edition(new, Path(new), args)
    if cuts and rest:
        file = Path(rest[0])
        old, new = first[: cuts[0]], first[cuts[0] + 2 :]
        return _edition(old, file, args), load(file, at=args.at, approvers=args.approvers) if not new else _edition(new, file, args)
    why = "expected OLD NEW or OLD..NEW, two files, or REVISION..REVISION FILE"
    raise ArchitectureError([Problem(first, 1, 1, (), why, "diff")])


def _edition(named: str, file: Path, args: argparse.Namespace) -> Architecture:
    """A file, or ``file`` as it is in a revision of its repository.

    Raises:
        ArchitectureError: neither, or refused.
    """
    if Path(named).is_file():
        return load(Path(named), at=args.at, approvers=args.approvers)
    shown = f"{file.name}@{named}"
    if named.startswith("-"):
        raise ArchitectureError([Problem(shown, 1, 1, (), "is neither a file nor a revision", "diff")])
    folder = str(file.resolve().parent)
    try:
        spot = ["git", "-C", folder, "rev-parse", "--short", "--verify", "--end-of-options", f"{named}^{{commit}}"]
        commit = subprocess.run(spot, capture_output=True, timeout=_GIT_TIMEOUT_S, check=True).stdout.decode().strip()
        show = ["git", "-C", folder, "show", f"{commit}:./{file.name}"]
        content = subprocess.run(show, capture_output=True, timeout=_GIT_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        why = f"is no file, and no revision of {file} in git"
        raise ArchitectureError([Problem(named, 1, 1, (), why, "diff")]) from None
    if len(content) > FILE_BYTES_MAX:
        raise ArchitectureError([Problem(shown, 1, 1, (), f"over {FILE_BYTES_MAX} bytes, expected a declaration", "file")])
    return loads(decoded(content, shown), shown, commit=commit, at=args.at)


# What all three say


@contextlib.contextmanager
def _store(args: argparse.Namespace, *, needed: bool = True) -> Iterator[Any]:  # Any: reader and key, None without a store
    """The store to read and its key; nothing if it is not there and not ``needed``."""
    chosen = settings({"store": args.store, "key": args.key}, args.config)
    if not needed and (chosen.store == NO_STORE or (not is_postgres(chosen.store) and not Path(chosen.store).exists())):
        yield None
        return
    if chosen.store == NO_STORE:
        raise StoreError("there is no store to read: --store PATH")
    if chosen.key is None and is_postgres(chosen.store):
        raise StoreError("the store's key is needed to know persons by their hashes: --key FILE")
    opened = reader(chosen.store, chosen.key)
    try:
        yield opened, Path(chosen.key or f"{chosen.store}.key")
    finally:
        opened.close()


class Progress:
    """Says on standard error how far a long run has come."""

    def __init__(self, when: Stretch, clock: Callable[[], float] = time.monotonic) -> None:
        self._from_ns = when.since_ns - when.lead_ns
        self._long_ns = max(1, when.until_ns - self._from_ns)
        self._clock = clock
        self._due_s = clock() + PROGRESS_S
        self._windows = 0

    def at(self, start: str) -> None:
        """One window more, of that time."""
        self._windows += 1
        # A clock is read less often than windows come.
        if self._windows % 256 or self._clock() < self._due_s:
            return
        self._due_s = self._clock() + PROGRESS_S
        share = (time_ns(start) - self._from_ns) / self._long_ns
        print(f"hopwatch: {self._windows} windows, {start[:10]}, {share:.0%}", file=sys.stderr, flush=True)


def _about(architecture: Architecture, when: Stretch) -> dict[str, Any]:  # Any: JSON values
    said = architecture.declaration.model_dump()
    return {"declaration": said, "since": time_text(when.since_ns), "until": time_text(when.until_ns), "days": when.days}


def _span(when: Stretch) -> str:
    return f"{time_text(when.since_ns)[:16]}Z to {time_text(when.until_ns)[:16]}Z"


def _doubts(when: Stretch, names: Names) -> dict[str, int]:
    return {"strangers": len(names.strangers), "strangers_windows": names.strangers.total(), "unread": when.unread}


def _print_doubts(when: Stretch, names: Names) -> None:
    if names.strangers:
        many = f"{len(names.strangers)} account{'' if len(names.strangers) == 1 else 's'}"
        print(f"  {names.strangers.total()} windows of {many} that no declared name explains (kept as hashes)")
    if when.unread:
        print(f"  {when.unread} records could not be read")


def _print_comparison_doubts(comparison: Comparison) -> None:
    if comparison.aside:
        print(f"  set aside: {comparison.aside} windows of accounts known then by a glob, which no hash shows")
    if comparison.unjudged:
        print(f"  not compared: {comparison.unjudged} windows of which nothing was said then (--against FILE judges them)")
    if beyond := comparison.before.beyond + comparison.after.beyond:
        print(f"  not told apart: {beyond} windows of further findings")


def amount(count: int, unit: Unit) -> str:
    """``61k``, ``250 MiB``: a peak as a person reads it, with at most three digits."""
    if unit is Unit.BYTES:
        for size, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
            if count >= size:
                return f"{count / size:.3g} {name}"
        return f"{count} B"
    for size, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g}{name} {unit}"
    return f"{count} {unit}"
