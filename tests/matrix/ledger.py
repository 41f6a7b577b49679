"""What a client counted itself, and how the sensor's count differs from it."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

AMOUNTS = ("rows", "values", "messages")
# What the same bytes cost on the wire beyond the payload that a client counts: message heads, keep-alives.
HEADS_SHARE, HEADS_BYTES = 0.02, 64 << 10


@dataclass(frozen=True, slots=True)
class Moved:
    """What one account moved by one operation, as its client counted it; None is what that client cannot count."""

    account: str | None
    operation: str
    rows: int | None = None
    values: int | None = None
    messages: int | None = None
    payload_bytes: int | None = None
    """Bytes of files the client was given: the stream has at least these, and little more."""

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None or name == "account"}


Sums = dict[tuple[str | None, str], dict[str, int]]


def sums(flows: Iterable[Mapping[str, Any]], *, without: re.Pattern[str] | None = None) -> Sums:
    """What the flows add up to, per account and operation; less what was read of objects all of whose names match ``without``."""
    total: Sums = defaultdict(lambda: dict.fromkeys((*AMOUNTS, "bytes", "bytes_back"), 0))
    for flow in flows:
        one = total[flow["account"], flow["operation"]]
        for name in one:
            one[name] += flow[name]
        for objects in flow["objects"] if without and flow["operation"] == "read" else ():
            if without and objects["names"] and all(without.fullmatch(name) for name in objects["names"]):
                for name in AMOUNTS:
                    one[name] -= objects[name]
    return dict(total)


def differences(ledger: Sequence[Moved], seen: Sums, aside: Iterable[str] = ()) -> list[str]:
    """Every amount that the sensor counts otherwise than the client, and rows or values of which no client knows.

    ``aside`` names operations whose rows and values the client's driver makes on its own account (catalogue queries) and
    does not count; those of the ledger are compared all the same.
    """
    wrong = []
    told: dict[tuple[str | None, str], dict[str, int]] = defaultdict(dict)
    for moved in ledger:
        for name in (*AMOUNTS, "payload_bytes"):
            if (amount := getattr(moved, name)) is not None:
                one = told[moved.account, moved.operation]
                one[name] = one.get(name, 0) + amount
    nothing = dict.fromkeys((*AMOUNTS, "bytes", "bytes_back"), 0)
    for key, amounts in told.items():
        held = seen.get(key, nothing)
        for name, amount in amounts.items():
            if name == "payload_bytes":
                if not amount <= held["bytes"] <= amount * (1 + HEADS_SHARE) + HEADS_BYTES:
                    wrong.append(f"{key[0]} {key[1]}: bytes {held['bytes']}, the client was given {amount}")
            elif held[name] != amount:
                wrong.append(f"{key[0]} {key[1]}: {name} {held[name]}, the client counted {amount}")
    for key, held in seen.items():
        if key not in told and key[1] not in {"connect", *aside} and (held["rows"] or held["values"]):
            wrong.append(f"{key[0]} {key[1]}: {held['rows']} rows, {held['values']} values of which the client knows nothing")
    return wrong
