"""How flows and findings are shown to people: text for a terminal, a file or a ticket, from events alone.

Amounts are grouped by thin steps of a thousand and bytes are in binary units (IEC 80000-13), as in a declaration.
Text that came off the wire is shown without control characters, so that a client cannot write to the reader's terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hopwatch.events import time_ns

Json = Mapping[str, Any]  # Any: one JSON object.

EVIDENCE_SHOWN_MAX = 5
OBJECTS_SHOWN_MAX = 8
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_CLAIMED_BY = ("sni", "outer-sni", "http")  # Said by the client, of whoever it likes.
_QUESTION_WIDTH = 11
_DECLARED_WIDTH = 28


def clean(text: object) -> str:
    """``text`` without control characters (ECMA-48 sequences start with one) and in one line."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))


def grouped(count: int) -> str:
    """``1 204 331``."""
    return f"{count:,}".replace(",", " ")


def size(count_bytes: float) -> str:
    """``812 MiB``; three significant digits above one KiB."""
    unit = 0
    while abs(count_bytes) >= 1024 and unit < len(_UNITS) - 1:
        count_bytes /= 1024
        unit += 1
    if unit == 0:
        return f"{int(count_bytes)} B"
    return f"{count_bytes:.{2 if count_bytes < 10 else 1 if count_bytes < 100 else 0}f} {_UNITS[unit]}"


def span(start: str, end: str) -> str:
    """``9 min``: the time between two instants."""
    seconds = max(time_ns(end) - time_ns(start), 0) / 1e9
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def amounts(record: Json) -> str:
    """Rows, values or messages, whichever are there, then bytes."""
    counted = [f"{grouped(record[name])} {name}" for name in ("rows", "values") if record.get(name)]
    if not counted and record.get("messages"):
        counted = [f"{grouped(record['messages'])} messages"]
    return ", ".join([*counted, size(record.get("bytes", 0))])


def instant(time: str) -> str:
    """``2026-04-07 10:42:10Z``, cut to seconds."""
    return time[:19].replace("T", " ") + "Z"


def endpoint(end: Json) -> str:
    """The name if one is confirmed, else address and port (RFC 3986 brackets around IPv6)."""
    names = [name["name"] for name in end.get("names", ()) if name.get("by") not in _CLAIMED_BY]
    host = clean(names[0]) if names else (f"[{end['address']}]" if ":" in end["address"] else end["address"])
    return f"{host}:{end['port']}" if end.get("port") else host


def flow_line(flow: Json, verdict: str | None) -> str:
    """One flow window in one line."""
    account = clean(flow.get("account") or "-")
    objects = [clean(name) for entry in flow.get("objects", ()) for name in entry.get("names", ())]
    shown = ", ".join(dict.fromkeys(objects[:3])) + (", ..." if len(objects) > 3 else "")
    state = flow.get("completeness", {}).get("state", "complete")
    parts = [
        instant(flow["start"]),
        f"{verdict or 'unjudged':22}",
        f"{endpoint(flow['source'])} -> {endpoint(flow['destination'])}",
        clean(flow.get("protocol") or flow.get("transport") or "-"),
        account,
        flow["operation"],
        amounts(flow),
        *([shown] if shown else []),
        *([state] if state != "complete" else []),
    ]
    return "  ".join(parts)


def finding_line(finding: Json) -> str:
    """One finding in one line."""
    return "  ".join(
        [
            f"{finding['severity'].upper():8}",
            f"{finding['verdict']:22}",
            clean(finding["plant"]),
            instant(finding["last_seen"]),
            finding["finding_id"],
            _who(finding),
            f"{clean(finding['source'])} -> {clean(finding['destination'])}",
            amounts(finding.get("observed", {})),
            f"{grouped(finding.get('windows', 1))} windows",
        ]
    )


def violation(finding: Json) -> str:
    """A finding as a person needs it: verdict, who, legs, data, the nearest hop and what differs, evidence."""
    observed: Json = finding.get("observed") or {}
    declaration: Json = finding.get("declaration") or {}
    legs = finding.get("legs") or [
        {"source": finding["source"], "destination": finding["destination"], **observed, "seen_by": finding.get("seen_by")}
    ]
    unsigned = bool(declaration) and not declaration.get("signed")
    legs_text = f"   {len(legs)} legs" if len(legs) > 1 else ""
    lines = [
        f"{finding['severity'].upper()}  {finding['verdict']}   {clean(finding['plant'])}   {instant(finding['last_seen'])}   "
        f"finding {finding['finding_id']}{legs_text}{'   UNSIGNED declaration' if unsigned else ''}",
        f"  {_who(finding)}",
    ]
    for number, leg in enumerate(legs, 1):
        seen = f"     seen by {clean(leg['seen_by'])}" if leg.get("seen_by") else ""
        over = f" in {span(finding['first_seen'], finding['last_seen'])}" if len(legs) == 1 else ""
        lines.append(f"  leg {number}   {clean(leg['source'])} -> {clean(leg['destination'])}     {amounts(leg)}{over}{seen}")
    if observed.get("objects") or observed.get("classes"):
        objects = [clean(name) for name in observed.get("objects", ())]
        more = f" and {len(objects) - OBJECTS_SHOWN_MAX} more" if len(objects) > OBJECTS_SHOWN_MAX else ""
        classes = ", ".join(clean(name) for name in observed.get("classes", ())) or "no class"
        lines.append(f"  data    {', '.join(objects[:OBJECTS_SHOWN_MAX]) or 'objects unknown'}{more} ({classes})")
    lines += _nearest(finding, declaration)
    unread = [f"{name} {answer}" for name, answer in (finding.get("checked") or {}).items() if answer != "checked"]
    if unread:
        lines.append(f"  not checked: {', '.join(unread).replace('how_much', 'how much')}")
    evidence: Sequence[str] = finding.get("evidence") or ()
    ids = ", ".join(identity[:12] for identity in evidence[:EVIDENCE_SHOWN_MAX])
    lines.append(f"  first seen {instant(finding['first_seen'])}, last seen {instant(finding['last_seen'])}")
    count = f"{grouped(finding.get('windows', 1))} flow records"
    lines.append(f"  evidence {ids} ({count})" if ids else f"  evidence {count}")
    if finding.get("completeness", "complete") != "complete":
        lines.append(f"  completeness: {finding['completeness']}; more may have moved than is shown")
    if unsigned:
        lines.append("  UNSIGNED: nobody has signed the declaration this was judged against")
    return "\n".join(lines)


def _who(finding: Json) -> str:
    """The account, and the host it worked from if the finding names one."""
    account = clean(finding.get("who") or "account unread")
    return f"{account} @ {clean(finding['client'])}" if finding.get("client") else account


def _edition(declaration: Json) -> str:
    """Which declaration: ``north v14, commit 9ab31c7``."""
    commit = f"commit {clean(declaration['commit'])}" if declaration.get("commit") else "not committed"
    return f"{clean(declaration['plant'])} v{declaration['version']}, {commit}"


def _nearest(finding: Json, declaration: Json) -> list[str]:
    """The nearest approved hop, and each question on which the flow differs from it: declared -> observed."""
    differences = finding.get("differences") or ()
    version = f" ({_edition(declaration)})" if declaration else ""
    hop = finding.get("nearest_hop")
    head = f"  nearest approved hop: {clean(hop)}{version}" if hop else f"  no approved hop is near{version}"
    lines = [head + ("      differs in" if differences else "")]
    for entry in differences:
        question = clean(entry["question"]).replace("_", " ")
        note = f"   {clean(entry['note'])}" if entry.get("note") else ""
        lines.append(f"    {question:{_QUESTION_WIDTH}} {clean(entry['declared']):{_DECLARED_WIDTH}} -> {clean(entry['observed'])}{note}")
    return lines


def explained_flow(flow: Json) -> str:
    """One stored flow and what was said about it."""
    judgement: Json = flow.get("judgement") or {}
    lines = [
        f"{judgement.get('verdict') or 'unjudged'}   {clean(flow['plant'])}   {instant(flow['start'])}   flow {flow['flow_id'][:12]} "
        f"window {flow['sequence']} (event {flow['event_id'][:12]})",
        f"  {endpoint(flow['source'])} -> {endpoint(flow['destination'])}   {clean(flow.get('protocol') or flow.get('transport'))} "
        f"{flow['operation']}   account {clean(flow.get('account') or 'unread')}",
        f"  moved   {amounts(flow)} in {span(flow['start'], flow['end'])}, {size(flow.get('bytes_back', 0))} back",
    ]
    if flow.get("totals", {}).get("bytes"):
        lines.append(f"  so far  {amounts(flow['totals'])}")
    for entry in flow.get("objects", ())[:OBJECTS_SHOWN_MAX]:
        columns = f" ({', '.join(map(clean, entry['columns']))})" if entry.get("columns") else ""
        marks = f"; {', '.join(map(clean, entry['marks']))}" if entry.get("marks") else ""
        lines.append(f"  data    {', '.join(map(clean, entry['names']))}{columns}: {amounts(entry)}{marks}")
    protection = flow.get("protection", {})
    lines.append(
        f"  depth {flow.get('depth')}, seen by {clean(flow.get('agent'))}, {flow.get('completeness', {}).get('state', 'complete')}; "
        f"transport {clean(protection.get('transport'))}, authentication {clean(protection.get('authentication') or 'not seen')}"
    )
    if judgement.get("checked"):
        lines.append("  " + ", ".join(f"{name.replace('_', ' ')} {answer}" for name, answer in judgement["checked"].items()))
    if judgement.get("hop"):
        lines.append(f"  hop {clean(judgement['hop'])}")
    for entry in judgement.get("differences") or ():
        question = clean(entry["question"]).replace("_", " ")
        lines.append(f"    {question:{_QUESTION_WIDTH}} {clean(entry['declared']):{_DECLARED_WIDTH}} -> {clean(entry['observed'])}")
    if judgement.get("finding_id"):
        lines.append(f"  finding {judgement['finding_id']}")
    if judgement.get("declaration"):
        signed = "" if judgement["declaration"].get("signed") else ", UNSIGNED"
        lines.append(f"  judged by {_edition(judgement['declaration'])}{signed}")
    for entry in judgement.get("earlier") or ():
        raised = f", finding {entry['finding_id']}" if entry.get("finding_id") else ""
        by = f" by {_edition(entry['declaration'])}" if entry.get("declaration") else ""
        lines.append(f"  before, {entry['verdict']}{by}{raised}")
    return "\n".join(lines)


def loss_line(loss: Json) -> str:
    """One loss in one line."""
    lost = [f"{grouped(loss[name])} {name}" for name in ("packets", "events") if loss.get(name)]
    if loss.get("bytes"):
        lost.append(size(loss["bytes"]))
    return (
        f"{instant(loss['start'])}  lost at {loss['stage']}: {', '.join(lost) or 'unknown amount'}  {clean(loss.get('why', ''))}".rstrip()
    )


def summary_line(summary: Json) -> str:
    """How a run ended, in one line."""
    findings = ", ".join(f"{count} {verdict}" for verdict, count in sorted(summary["findings"].items())) or "no findings"
    lost = summary["lost"]
    loss = f"; lost {grouped(lost['packets'])} packets, {size(lost['bytes'])}" if lost["packets"] or lost["bytes"] else ""
    if lost.get("events"):
        loss += f"; {grouped(lost['events'])} events kept nowhere"
    if summary.get("forgotten"):
        loss += "; forgotten at their bounds: " + ", ".join(f"{grouped(count)} {name}" for name, count in summary["forgotten"].items())
    copies = f" ({grouped(summary['copies'])} of them copies)" if summary.get("copies") else ""
    one_sided = f"; {summary['one_sided_share']:.0%} of connections one-sided" if summary.get("one_sided_share") else ""
    return (
        f"{grouped(summary['packets'])} packets{copies}, {size(summary['bytes'])}, {grouped(summary['windows'])} windows in "
        f"{summary['seconds']:.1f} s: {findings}{loss}{one_sided}"
    )
