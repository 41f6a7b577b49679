"""``hopwatch declared``: validate, sign, apply, table, draw, explain-hop, what-if, draft, hits, backtest, diff, schema.

Exit codes: 0 it holds; 1 it loads, and something in it has ended, the movement asked about is not approved, a line is unused or far
too wide, findings would appear, or two editions differ; 2 the input is refused.
"""

import argparse
import getpass
import json
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

from hopwatch.declared import draw, explain, schema, table
from hopwatch.declared.load import load, today
from hopwatch.declared.model import Architecture
from hopwatch.declared.problem import ArchitectureError, Level, Problem
from hopwatch.declared.sign import SignatureError, sign, signature_path
from hopwatch.flags import instant

OK, FOUND, REFUSED = 0, 1, 2


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands and their flags to the parser of ``declared``."""
    commands = parser.add_subparsers(dest="declared_command", metavar="COMMAND", required=True)

    def command(name: str, about: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=about)
        if name != "schema":
            parser.add_argument("file", type=Path, help="the declaration, such as plant-north.yaml")
            _judged_on(parser)
        return parser

    command("validate", "prove every rule; exit 1 if something has ended").add_argument(
        "--json", action="store_true", help="one JSON object a line"
    )
    signing = command("sign", "write the detached Ed25519 signature FILE.sig")
    signing.add_argument("--key", type=Path, required=True, help="private key, PEM or OpenSSH, Ed25519")
    applying = command("apply", "publish it, signed and committed, as what Kafka's detectors judge by")
    applying.add_argument("--allow-unsigned", action="store_true", help="though nobody but its author approved it")
    applying.add_argument("--allow-older", action="store_true", help="though its version is not above the one in force")
    applying.add_argument("--allow-dirty", action="store_true", help="though its bytes are in no commit")
    applying.add_argument(
        "--brokers",
        "--bootstrap-servers",
        dest="bootstrap_servers",
        metavar="HOST:PORT",
        help="some brokers; else [kafka] of the configuration",
    )
    applying.add_argument("--topic-prefix", metavar="PREFIX", help="what stands before every topic's name")
    applying.add_argument("--config", type=Path, metavar="FILE", help="configuration (default ./hopwatch.toml, if it is there)")
    command("table", "the hops as a table").add_argument("--csv", action="store_true", help="CSV instead of Markdown")
    command("draw", "the architecture as a picture").add_argument("--format", choices=("svg", "mermaid"), default="svg")
    command("explain-hop", "a hop in plain sentences").add_argument("hop")
    asking = command("what-if", "which hop would approve this movement, or why none does")
    for name in ("who", "source", "destination", "what"):
        asking.add_argument(name)
    asking.add_argument("rows", type=_count, help="how many, such as 200000 or 200k: rows, or messages of a topic, values of a node")
    drafting = commands.add_parser("draft", help="the hop that would approve what a finding saw, or hopwatch's own, as YAML to review")
    drafting.add_argument("finding", help="the finding, such as F-7c1e9a02; or self: what hopwatch itself moves by its settings")
    drafting.add_argument("--host", metavar="ADDRESS", help="of self: this host's address as the plant sees it")
    drafting.add_argument("-d", "--declaration", dest="file", type=Path, metavar="FILE", help="the declaration (default: the settings')")
    _judged_on(drafting)
    _kept(drafting)
    _past(command("hits", "how often each hop and line was used, when last, and its peak against its limit"))
    testing = _past(command("backtest", "what it would have said of the stored windows: which findings appear, which disappear"))
    testing.add_argument("--against", metavar="FILE|REVISION", help="compare with this edition, not with what was said on the day")
    comparing = commands.add_parser("diff", help="what two editions say differently, and its effect on past traffic")
    comparing.add_argument("compared", nargs="+", metavar="EDITIONS", help="OLD NEW or OLD..NEW, two files; or REVISION..[REVISION] FILE")
    _judged_on(_past(comparing))
    command("schema", "the JSON Schema of the format, for an editor")


def _judged_on(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--at", type=_day, metavar="DATE", help="the day expiries are judged on; today, or that of old packets, if left out"
    )
    parser.add_argument("--approvers", type=Path, metavar="FILE", help="the approver keys; HOPWATCH_APPROVERS if left out")


def _kept(parser: argparse.ArgumentParser) -> None:
    """Where the store is."""
    parser.add_argument("--store", metavar="PATH", help="the store's file, or postgresql://… (default hopwatch.db)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the key of the store's pseudonyms (default STORE.key)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default ./hopwatch.toml, if it is there)")


def _past(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """What the commands have in common that look back."""
    _kept(parser)
    parser.add_argument("--days", type=_days, default=31, metavar="N", help="how many days are looked at (default 31)")
    parser.add_argument("--until", type=instant, metavar="TIME", help="where they end, RFC 3339 (default: the newest window)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser


Asker = Callable[[Architecture, str, str, str, str, int, date], explain.Answer]
"""Who answers ``what-if``: the judge of windows, which knows declarations and is not known by them."""


Runner = Callable[[argparse.Namespace], int]
"""Who runs ``apply``, which speaks with a cluster, and ``hits``, ``backtest``, ``diff``, ``draft``, which read a store.

Declarations know neither.
"""


def run(args: argparse.Namespace, ask: Asker, apply: Runner, look: Runner) -> int:
    """Run the command that was parsed; returns the exit code. ``ask`` answers ``what-if``, ``apply`` publishes, ``look`` looks back."""
    if args.declared_command == "apply":
        return apply(args)
    if args.declared_command in ("hits", "backtest", "diff", "draft"):
        return look(args)
    if args.declared_command == "schema":
        print(json.dumps(schema.json_schema(), indent=2))
        return OK
    try:
        architecture = load(args.file, at=args.at, approvers=args.approvers)
    except ArchitectureError as error:
        _refuse(error, getattr(args, "json", False))
        return REFUSED
    match args.declared_command:
        case "validate":
            return _validate(architecture, args.json)
        case "sign":
            return _sign(args.file, args.key)
        case "table":
            print(table.comma_separated(architecture) if args.csv else table.markdown(architecture), end="")
        case "draw":
            print(draw.mermaid(architecture) if args.format == "mermaid" else draw.svg(architecture), end="")
        case "explain-hop":
            return _explain(architecture, args.hop)
        case "what-if":
            return _ask(architecture, args, ask)
    return OK


def _ask(architecture: Architecture, args: argparse.Namespace, ask: Asker) -> int:
    try:
        answer = ask(architecture, args.who, args.source, args.destination, args.what, args.rows, args.at or today())
    except ValueError as error:
        print(f"{architecture.file}: {error}", file=sys.stderr)
        return REFUSED
    print(f"{table.heading(architecture)}\n{answer}")
    return OK if answer.approved else FOUND


def _validate(architecture: Architecture, as_json: bool) -> int:
    findings = [problem for problem in architecture.problems if problem.level is Level.FINDING]
    if as_json:
        _print_json(architecture.problems)
        said = architecture.declaration
        state = {"kind": "declaration", **said.model_dump(), "approval": said.approval, "holds": not findings, "findings": len(findings)}
        print(json.dumps({**state, "warnings": len(architecture.problems) - len(findings), "errors": 0}))
    else:
        for problem in architecture.problems:
            print(f"{problem.level.value}: {problem}")
        ended = f"{len(findings)} ended" if findings else "holds"
        print(f"{table.heading(architecture)} ({architecture.declaration.approval}): {len(architecture.hops)} hops, {ended}")
    return FOUND if findings else OK


def _refuse(error: ArchitectureError, as_json: bool) -> None:
    if as_json:
        _print_json(error.problems)
        print(json.dumps({"kind": "declaration", "holds": False, "errors": len(error.problems)}))
    else:
        print(error, file=sys.stderr)


def _print_json(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        print(json.dumps(problem.as_dict()))


def _sign(file: Path, key: Path) -> int:
    try:
        private = key.read_bytes()
        encrypted = b"ENCRYPTED" in private
        password = getpass.getpass("Password of the key: ").encode() if encrypted else None
        signature = sign(file.read_bytes(), private, password)
        signature_path(file).write_bytes(signature)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return REFUSED
    except SignatureError as error:
        print(f"{key.name}: {error}", file=sys.stderr)
        return REFUSED
    print(f"wrote {signature_path(file)}")
    return OK


def _explain(architecture: Architecture, hop: str) -> int:
    if hop not in architecture.hops:
        print(f"{architecture.file}: {hop} is no hop of this file, expected one of {', '.join(architecture.hops)}", file=sys.stderr)
        return REFUSED
    print(f"{table.heading(architecture)}\n{explain.explain_hop(architecture, hop)}")
    return OK


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'"{text}": expected a day such as 2026-04-07') from error


def _days(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 3660:
        raise argparse.ArgumentTypeError(f'"{text}": expected a number of days, 1 to 3660')
    return int(text)


def _count(text: str) -> int:
    try:
        return explain.read_count(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
