"""The flags that several commands have, and how they are read."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path


def sources(parser: argparse.ArgumentParser) -> None:
    """What is captured: interfaces or files."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("-i", "--interface", dest="interfaces", nargs="+", metavar="IFACE", help="listen on these interfaces, passively")
    source.add_argument("-r", "--read", dest="files", nargs="+", metavar="FILE", help="read captures: pcap, pcapng, gz, zstd; - is stdin")


def capturing(parser: argparse.ArgumentParser, feeds: Iterable[str]) -> None:
    """How it is captured; ``feeds`` are the kinds of sources beside packets."""
    parser.add_argument("--bpf", metavar="FILTER", help="capture filter, pcap-filter(7)")
    parser.add_argument("--snaplen", type=int, metavar="BYTES", help="bytes kept of a packet")
    parser.add_argument("--agent", metavar="NAME", help="the name of this agent in events (default hopwatch)")
    parser.add_argument("--tap", metavar="NAME", help="the name of the tap in events")
    vlans_equal(parser)
    parser.add_argument(
        "--tap-of", action="append", metavar="IFACE=TAP", help="the tap an interface belongs to; other taps are other networks"
    )
    parser.add_argument("--verify-checksums", action="store_true", default=None, help="drop segments whose checksum is wrong")
    parser.add_argument(
        "--feed", action="append", dest="feeds", metavar="KIND:[FEED=]WHERE", help=f"a source beside packets: {', '.join(feeds)}"
    )
    parser.add_argument(
        "--plugin",
        action="append",
        dest="plugins",
        metavar="NAME[@PORT]",
        help="a decoder in Python: modbus, package.module:Class; again for each",
    )
    parser.add_argument("--feeds-state", type=Path, metavar="PATH", help="where the place in each is kept (default hopwatch.feed)")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="end after so long")


def vlans_equal(parser: argparse.ArgumentParser) -> None:
    """Which VLANs are one network."""
    parser.add_argument(
        "--vlans-equal", action="append", metavar="A=B", help="VLANs that are one network: 120=220, or vni:7=vni:9; again for each pair"
    )


def reading(parser: argparse.ArgumentParser) -> None:
    """Where the store is that is read, and how it is shown."""
    parser.add_argument("--store", metavar="PATH", help="the store's file (default hopwatch.db), or postgresql://… of the store at scale")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the key of the store's pseudonyms (default STORE.key)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    common(parser)


def common(parser: argparse.ArgumentParser) -> None:
    """Where the settings are."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default ./hopwatch.toml, if it is there)")


def metrics(parser: argparse.ArgumentParser) -> None:
    """The flag of every program that runs on."""
    parser.add_argument(
        "--metrics",
        metavar="ADDRESS:PORT",
        help="serve figures for Prometheus there, 127.0.0.1:9464; elsewhere than on loopback: exposed:0.0.0.0:9464",
    )


def questions(parser: argparse.ArgumentParser) -> None:
    """The flag of whatever judges."""
    parser.add_argument(
        "--questions", action=argparse.BooleanOptionalAction, help="ask what no single window shows, too (docs/detectors.md; default on)"
    )


def locations(parser: argparse.ArgumentParser) -> None:
    """The flags of whoever says where an address is and how large a table."""
    parser.add_argument(
        "--table-sizes", type=Path, metavar="FILE", help="CSV of asset, table and rows: how large tables are, for --questions"
    )
    parser.add_argument(
        "--locations", type=Path, nargs="+", metavar="FILE", help="MaxMind DB files: country or operator of addresses, for --questions"
    )


def instant(text: str) -> str:
    """RFC 3339; a day alone begins at midnight UTC.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    # The vocabulary is loaded when a time is given, not when flags are described.
    from hopwatch.events import time_ns

    full = f"{text}T00:00:00Z" if len(text) == 10 else text
    try:
        time_ns(full)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}": {error}') from error
    return full


def count(text: str) -> int:
    """How many are listed.

    Raises:
        argparse.ArgumentTypeError: it is no number from 1 to a million.
    """
    if not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 1 to 1000000")
    return int(text)
