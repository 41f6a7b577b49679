"""`hopwatch flows`, `findings` and `explain`: what a store keeps; `hopwatch schema`: what the records are."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator

from hopwatch import flags
from hopwatch.config import NO_STORE, settings
from hopwatch.events import schema
from hopwatch.process import FINDINGS, NOTHING, Wrong
from hopwatch.show import explained_flow, flow_line, loss_line, violation
from hopwatch.store import ID_CHARACTERS_MIN, Query, Reader

LISTED = 100


def add_listing(parser: argparse.ArgumentParser) -> None:
    """The flags of `hopwatch flows` and `hopwatch findings`."""
    parser.add_argument("--verdict")
    parser.add_argument("--account", metavar="NAME", help="in clear; accounts that rest as pseudonyms are found too")
    parser.add_argument("--address", help="either end")
    parser.add_argument("--hop", metavar="NAME")
    parser.add_argument("--since", type=flags.instant, metavar="TIME", help="RFC 3339, or a day")
    parser.add_argument("--until", type=flags.instant, metavar="TIME", help="RFC 3339, or a day; not included")
    parser.add_argument("--limit", type=flags.count, default=LISTED, metavar="N")
    flags.reading(parser)


def add_explain(parser: argparse.ArgumentParser) -> None:
    """The flags of `hopwatch explain`."""
    parser.add_argument("id", metavar="ID", help=f"at least {ID_CHARACTERS_MIN} characters of it")
    flags.reading(parser)


@contextlib.contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[Reader]:
    chosen = settings({"store": arguments.store, "key": arguments.key}, arguments.config)
    if chosen.store == NO_STORE:
        raise Wrong("there is no store to read: --store PATH")
    # The client of PostgreSQL is loaded by who needs it.
    from hopwatch.store.reader import reader

    store = reader(chosen.store, chosen.key)
    try:
        yield store
    finally:
        store.close()


def _query(arguments: argparse.Namespace) -> Query:
    names = ("verdict", "account", "address", "hop", "since", "until", "limit")
    return Query(**{name: getattr(arguments, name) for name in names})


def flows(arguments: argparse.Namespace) -> int:
    """`hopwatch flows`."""
    with _opened(arguments) as store:
        for flow in store.flows(_query(arguments)):
            print(json.dumps(flow, ensure_ascii=False) if arguments.json else flow_line(flow, (flow["judgement"] or {}).get("verdict")))
    return NOTHING


def findings(arguments: argparse.Namespace) -> int:
    """`hopwatch findings`."""
    with _opened(arguments) as store:
        found = store.findings(_query(arguments))
    for number, finding in enumerate(found):
        print(json.dumps(finding, ensure_ascii=False) if arguments.json else ("\n" if number else "") + violation(finding))
    return FINDINGS if found else NOTHING


def explain(arguments: argparse.Namespace) -> int:
    """`hopwatch explain`."""
    with _opened(arguments) as store:
        record = store.find(arguments.id)
    if arguments.json:
        print(json.dumps(record, ensure_ascii=False))
    else:
        print({"finding": violation, "flow": explained_flow, "loss": loss_line}[record["kind"]](record))
    return FINDINGS if record["kind"] == "finding" else NOTHING


def published() -> int:
    """`hopwatch schema`."""
    print(json.dumps(schema(), indent=2))
    return NOTHING
