"""The findings of the online detectors: one for each identity, updated as long as it goes on.

As with verdicts, the same question about the same account and ends is one finding from the first day, which accumulates
windows, amounts, objects and classes; what it says of a difference is the latest wording. Ids are hashes of the identity, so
that a replay says the same.
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from detectors.judgement import RESUMED_NS, highest
from detectors.memory import Memory
from detectors.moved import Moved
from hopwatch.events import RATIO_MAX, Declaration, Difference, Finding, Observed, Severity, time_text

CASES_MAX: Final = 10_000
"""Findings kept open; the one updated longest ago is forgotten and would start anew."""

EVIDENCE_KEPT: Final = 64
OBJECTS_SHOWN: Final = 64
DIFFERENCES_SHOWN: Final = 32


class Cases:
    """The open findings of one detector, in ``memory``."""

    def __init__(self, declaration: Declaration, severities: Mapping[str, Severity] | None = None, most: int = CASES_MAX) -> None:
        """``severities``: how bad each class of data is, of a detector that names classes."""
        self._declaration = declaration
        self._severities = severities or {}
        self.memory: Memory[dict[str, Any]] = Memory(dict, dict, dict, most)

    def say(
        self,
        verdict: str,
        severity: Severity,
        *,
        plant: str,
        who: str | None,
        source: str,
        destination: str,
        first_ns: int,
        last_ns: int,
        differences: Iterable[tuple[str, str, str]],
        what: str = "",
        moved: Moved | None = None,
        observed: Observed | None = None,
        hop: str | None = None,
        ratio: float | None = None,
        **extra: Any,  # Any: fields of a finding that readers need not know, JSON values
    ) -> Finding:
        """The finding after this; ``differences`` are question, what is declared or usual, and what was seen.

        ``ratio`` is of what was seen to what is allowed or usual.
        ``what`` parts findings that share everything else; ``observed`` stands in the place of the sum over the windows given.
        """
        finding_id = _id_of((plant, verdict, who or "", source, destination, hop or "", what))
        case = self.memory.of(finding_id)
        case["windows"] = case.get("windows", 0) + 1
        if "last" in case and first_ns - case["last"] >= RESUMED_NS:
            case["resumed"] = first_ns
        if ratio is not None:
            case["ratio"] = max(min(ratio, RATIO_MAX), case.get("ratio", 0.0))
        case["first"] = min(case.get("first", first_ns), first_ns)
        case["last"] = max(case.get("last", last_ns), last_ns)
        case["severity"] = highest((severity, case.get("severity", "info")))
        said = {(question, declared): seen for question, declared, seen in case.get("differences", ())}
        said |= {(question, declared): seen for question, declared, seen in differences}
        case["differences"] = [[question, declared, seen] for (question, declared), seen in said.items()][-DIFFERENCES_SHOWN:]
        if moved is not None:
            _count(case, moved)
        if observed is not None:
            case["observed"] = observed.model_dump()
        shown = Observed.model_validate(case.get("observed", {}))
        event = moved.flow.event_id if moved is not None else str(case["windows"])
        return Finding(
            event_id=blake2b(f"{finding_id}/{event}/{case['last']}".encode(), digest_size=16).hexdigest(),
            finding_id=finding_id,
            verdict=verdict,
            severity=case["severity"],
            plant=plant,
            first_seen=time_text(case["first"]),
            last_seen=time_text(case["last"]),
            windows=case["windows"],
            who=who,
            client=None if moved is None else moved.client.shown,
            source=source,
            destination=destination,
            observed=shown,
            nearest_hop=hop,
            differences=[
                Difference(question=question, declared=declared, observed=seen) for question, declared, seen in case["differences"]
            ],
            declaration=self._declaration,
            evidence=list(case.get("evidence", ())),
            ratio=case.get("ratio"),
            class_severities={name: self._severities[name] for name in shown.classes if name in self._severities},
            resumed=None if "resumed" not in case else time_text(case["resumed"]),
            **extra,
        )


# What goes on says its identity with every window.
@lru_cache(maxsize=16_384)
def _id_of(identity: tuple[str, ...]) -> str:
    return "F-" + blake2b(json.dumps(identity).encode(), digest_size=8).hexdigest()


def _count(case: dict[str, Any], moved: Moved) -> None:  # Any: JSON values
    was = case.get("observed") or {"rows": 0, "values": 0, "messages": 0, "bytes": 0, "objects": [], "classes": []}
    names = [name for part in moved.flow.objects for name in part.names]
    case["observed"] = {
        "rows": was["rows"] + moved.rows,
        "values": was["values"] + moved.values,
        "messages": was["messages"] + moved.messages,
        "bytes": was["bytes"] + moved.bytes,
        "objects": list(dict.fromkeys((*was["objects"], *names)))[:OBJECTS_SHOWN],
        "classes": sorted({*was["classes"], *moved.classes}),
    }
    if len(case.get("evidence", ())) < EVIDENCE_KEPT:
        case["evidence"] = [*case.get("evidence", ()), moved.flow.event_id]
