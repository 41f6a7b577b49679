"""The `hopwatch` command: parses, and hands over to the room that runs the command.

A command's room, and with it what the room needs, is loaded when the command was chosen: `hopwatch --help` loads none.

Exit status: 0 nothing to report, 1 findings or a damaged capture, 2 a wrong command, input or declaration, or a run that could
not go on; of the last two one line on standard error says why, and what was read until then is judged and stored. Standard
output carries results only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from hopwatch import flags
from hopwatch.process import NOTHING, WRONG, ending, mute, say, steady
from hopwatch.version import version

if TYPE_CHECKING:
    from collectors.packets import Sensor, Sensors

    Run = Callable[[argparse.Namespace, Sensors], int]
    """Runs a command whose arguments were parsed; returns its exit status."""

    Fill = Callable[[argparse.ArgumentParser], Run]
    """Adds a command's flags to its parser; returns who runs it."""


# Commands: each loads its room, adds its flags, and says who runs it.


def _watch(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import watching

    watching.add_watch(parser)
    return watching.watch


def _agent(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import agents

    agents.add_agent(parser)
    return lambda arguments, sensors: agents.run_agent(arguments, sensors, ending)


def _import(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import agents

    agents.add_import(parser)
    return lambda arguments, sensors: agents.run_import(arguments, ending)


def _detect(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import scale

    scale.add_detect(parser)
    return lambda arguments, sensors: scale.detect(arguments, steady)


def _store(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import scale

    scale.add_store(parser)
    return lambda arguments, sensors: scale.store(arguments, steady)


def _inspect(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import inspecting

    inspecting.add_inspect(parser)
    return inspecting.inspect


def _capture(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import inspecting

    inspecting.add_capture(parser)
    return inspecting.check_capture


def _flows(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import records

    records.add_listing(parser)
    return lambda arguments, sensors: records.flows(arguments)


def _findings(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import records

    records.add_listing(parser)
    return lambda arguments, sensors: records.findings(arguments)


def _console(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import console

    flags.reading(parser)
    console.add_console(parser)
    return lambda arguments, sensors: console.run(arguments, ending)


def _alerts(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import alerting

    alerting.add_alerts(parser)
    return lambda arguments, sensors: alerting.run(arguments, ending)


def _explain(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import records

    records.add_explain(parser)
    return lambda arguments, sensors: records.explain(arguments)


def _declared(parser: argparse.ArgumentParser) -> Run:
    from hopwatch.declared import cli as declared

    def ask(*asked: Any) -> Any:  # Any: what `declared.Asker` says; the judge is loaded by the one command that asks it.
        from detectors.whatif import what_if

        return what_if(*asked)

    def apply(arguments: argparse.Namespace) -> int:
        # The client of Kafka is loaded by who needs it.
        from hopwatch.apply import run

        return run(arguments)

    def look(arguments: argparse.Namespace) -> int:
        from hopwatch.backtest import run

        return run(arguments)

    declared.add_commands(parser)
    return lambda arguments, sensors: declared.run(arguments, ask, apply, look)


def _topics(parser: argparse.ArgumentParser) -> Run:
    from hopwatch.bus import cli as bus

    def run(arguments: argparse.Namespace, sensors: Sensors) -> int:
        from hopwatch.config import kafka

        return bus.run(arguments, kafka(vars(arguments), arguments.config))

    bus.add_commands(parser)
    return run


def _schema(parser: argparse.ArgumentParser) -> Run:
    from hopwatch import records

    return lambda arguments, sensors: records.published()


_COMMANDS: Final[Mapping[str, tuple[str, Fill]]] = {
    "watch": ("judge captures or interfaces against a declaration", _watch),
    "agent": ("publish what captures or interfaces show to Kafka, judging nothing", _agent),
    "import": ("publish the segments that came over a one-way line", _import),
    "detect": ("judge what agents publish to Kafka, as one of any number of detectors", _detect),
    "store": ("keep what agents and detectors publish to Kafka in PostgreSQL", _store),
    "inspect": ("what a capture holds, and how well it could be read", _inspect),
    "capture": ("the capture itself", _capture),
    "flows": ("list stored flows, newest first", _flows),
    "findings": ("list stored findings, newest first", _findings),
    "console": ("a web application on this machine: map, alerts, declaration, coverage", _console),
    "alerts": ("what a person is to act on: look, decide, deliver", _alerts),
    "explain": ("one finding, flow or loss in full", _explain),
    "declared": ("the declared architecture: validate, sign, draw, ask", _declared),
    "topics": ("the topics of a Kafka cluster: create, check, grant", _topics),
    "schema": ("the JSON Schema of the events", _schema),
}
"""In the order of `hopwatch --help`: a line about each, and who fills it in."""


# Parsing


class _Parser(argparse.ArgumentParser):
    """Gets its flags when it is chosen; an unknown command or flag is answered in one line that names the nearest known one."""

    fill: Fill | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # Any: as argparse overloads it.
        """What argparse calls of the command that was chosen, and of no other."""
        if self.fill is not None:
            self.set_defaults(run=self.fill(self))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        import difflib

        unknown = message.removeprefix("unrecognized arguments: ").split(" ")[0] if "unrecognized" in message else ""
        known = _options(self)
        near = difflib.get_close_matches(unknown, known, 1, 0.6)
        hint = f" (did you mean {near[0]}?)" if near else f" (see `{self.prog} --help`)"
        self.exit(WRONG, f"{self.prog}: {message}{hint}\n")


class _Version(argparse.Action):
    """`--version`, looked up when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"hopwatch {version()}")
        parser.exit()


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """Every flag of a parser and of its commands: argparse reports a command's unknown flag from the outermost parser."""
    options: list[str] = []
    for action in parser._actions:
        options += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            options += [option for command in action.choices.values() for option in _options(command)]
    return options


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="hopwatch", description="What data moves in a plant, against what was declared.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (about, fill) in _COMMANDS.items():
        commands.add_parser(name, help=about, allow_abbrev=False).fill = fill
    return parser.parse_args(argv)


# Running


def main(argv: Sequence[str] | None = None, *, sensors: Sensors | None = None) -> int:
    """Run the command; returns its exit status."""
    try:
        arguments = _parse(argv)
    except SystemExit as exit_:  # argparse ends the process itself after --help and wrong usage.
        return exit_.code if isinstance(exit_.code, int) else WRONG
    try:
        return int(arguments.run(arguments, sensors or _sensor))
    except BrokenPipeError:
        mute()
        return NOTHING
    except KeyboardInterrupt:
        say("interrupted")
    except Exception as error:
        line = _line(error)
        if line is None:
            raise
        say(line)
    return WRONG


def _sensor(plant: str, agent: str, **options: Any) -> Sensor:  # Any: those of `packets.sensor`.
    """The compiled sensor, loaded by the commands that capture."""
    from collectors.packets import sensor

    return sensor(plant, agent, **options)


def _line(error: Exception) -> str | None:
    """What a person is told of an error that can happen; None of one that is our own bug."""
    from collectors.packets import CaptureError, line
    from hopwatch.bus import LogError
    from hopwatch.config import ConfigError
    from hopwatch.declared.problem import ArchitectureError
    from hopwatch.process import Wrong
    from hopwatch.store import StoreError

    if isinstance(error, ArchitectureError):
        more = f" (and {len(error.problems) - 1} more; see `hopwatch declared validate`)" if len(error.problems) > 1 else ""
        return f"{error.problems[0]}{more}"
    if isinstance(error, (Wrong, ConfigError, StoreError, LogError, CaptureError)):
        return str(error)
    return line(error) if isinstance(error, OSError) else None


if __name__ == "__main__":
    sys.exit(main())
