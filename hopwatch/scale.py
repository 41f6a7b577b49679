"""`hopwatch detect` and `hopwatch store`: what consumes the topics of a Kafka cluster, assembled and run.

Exit status: 0 the run was asked to end, 2 a wrong command or setting, or a run that could not begin. Once they run, a database or
a broker that goes away is waited for, never a reason to end.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import TypeVar

from detectors.clock import ClockDetector, Clocks
from detectors.online import online
from detectors.verdict import VerdictDetector
from hopwatch import flags
from hopwatch.bus.kafka import Publisher, Reader, Subscriber
from hopwatch.config import ConfigError, ScaleSettings, chosen, kafka, served
from hopwatch.declared.load import load
from hopwatch.declared.model import Architecture
from hopwatch.detect import KINDS, Detecting, Token
from hopwatch.editions import Edition, Editions, edition_name
from hopwatch.engine import Detector
from hopwatch.located import Located
from hopwatch.process import Ending, say
from hopwatch.sizes import TableSizes
from hopwatch.store.postgresql import Hiding, PostgresStore, StoreAway
from hopwatch.store.progress import Progress
from hopwatch.store.pseudonyms import key_file
from hopwatch.storing import KINDS as STORED
from hopwatch.storing import Keeping, Storing

DONE, WRONG = 0, 2

AGAIN_S = 1.0

T = TypeVar("T")


def add_detect(parser: argparse.ArgumentParser) -> None:
    """The flags of `hopwatch detect`."""
    _common(parser)
    parser.add_argument("-d", "--declaration", type=Path, metavar="FILE", help="judge by this file only, not by the topic of declarations")
    parser.add_argument("--approvers", type=Path, metavar="FILE", help="the keys whose signature approves a declaration")
    parser.add_argument("--allow-unsigned", action="store_true", help="judge by declarations nobody has signed, too")
    parser.add_argument("--allow-older", action="store_true", help="let an older version take the place of a newer one")
    parser.add_argument("--at", type=date.fromisoformat, metavar="DATE", help="the day expiries are judged for (default: the packets')")
    flags.questions(parser)
    flags.locations(parser)
    parser.add_argument("--no-verdicts", dest="verdicts", action="store_false", default=None, help="keep no verdict for each flow")
    parser.add_argument("--group", metavar="NAME", help="the consumer group (default hopwatch-detect)")
    flags.common(parser)


def add_store(parser: argparse.ArgumentParser) -> None:
    """The flags of `hopwatch store` that are for a cluster."""
    _common(parser)
    parser.add_argument("--approvers", type=Path, metavar="FILE", help="the keys whose signature approves a declaration")
    parser.add_argument("--allow-unsigned", action="store_true", help="believe unsigned declarations about accounts, too")
    parser.add_argument("--group", metavar="NAME", help="the consumer group (default hopwatch-store)")
    parser.add_argument(
        "--keep",
        metavar="NAME=DAYS,…",
        help="how long: flows=30,persons=7,losses=90,heartbeats=7,findings=730,class:NAME=14; or keep_max: as classes say",
    )
    flags.common(parser)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--brokers", metavar="HOST:PORT,…", help="some brokers of the Kafka cluster")
    parser.add_argument("--postgres", metavar="URI", help="the PostgreSQL database; passwords belong in HOPWATCH_POSTGRES or ~/.pgpass")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the key of the pseudonyms, one for all that use the database")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="end after so long")
    flags.metrics(parser)


def verdict_detectors(at: date | None, architecture: Architecture, edition: str) -> list[Detector]:
    """The questions asked of every plant."""
    clocks = Clocks()
    return [ClockDetector(architecture, clocks), VerdictDetector(architecture, at=at, edition=edition, clocks=clocks)]


def online_detectors(at: date | None, located: Located, sizes: TableSizes, architecture: Architecture, edition: str) -> list[Detector]:
    """Those that build on the verdicts, too."""
    clocks = Clocks()
    return [ClockDetector(architecture, clocks), online(architecture, at=at, edition=edition, clocks=clocks, located=located, sizes=sizes)]


class _Stop:
    """Whether the run is asked to end."""

    def __init__(self, duration_s: float | None) -> None:
        self._asked = False
        self._until_s = None if duration_s is None else time.monotonic() + duration_s

    def ask(self) -> None:
        self._asked = True

    def __call__(self) -> bool:
        return self._asked or (self._until_s is not None and time.monotonic() >= self._until_s)


def detect(arguments: argparse.Namespace, ending: Ending) -> int:
    """`hopwatch detect`.

    Raises:
        ConfigError, LogError, StoreError, ArchitectureError: one line each.
    """
    settings = chosen(ScaleSettings, vars(arguments), arguments.config)
    postgres, hiding, key = _database(settings, "detect")
    reached = kafka({"bootstrap_servers": arguments.brokers}, arguments.config)
    editions = Editions(settings.at, settings.approvers, arguments.allow_unsigned, arguments.allow_older)
    if settings.declaration is not None:
        architecture = load(settings.declaration, at=settings.at, approvers=settings.approvers)
        digest = hashlib.sha256(settings.declaration.read_bytes()).hexdigest()
        editions.of[architecture.plant] = Edition(architecture, edition_name(digest, settings.at))
        if not architecture.declaration.signed:
            say(f"{settings.declaration}: UNSIGNED: nobody has signed this declaration")
    group = settings.group or "hopwatch-detect"
    make = partial(verdict_detectors, settings.at)
    if settings.questions:
        make = partial(online_detectors, settings.at, Located(settings.locations), TableSizes(settings.table_sizes, time.monotonic, say))
    stopping = _Stop(settings.duration)
    with ending(stopping.ask):
        progress = _patient(lambda: Progress(postgres, group, key, hiding), stopping)
        if progress is None:
            return DONE
        publisher: Publisher[Token] = Publisher(reached, speaker="detect")
        detecting = Detecting(
            partial(Subscriber, reached, group=group, kinds=KINDS, member="detect"),
            publisher,
            progress,
            make,
            editions,
            hiding,
            declared=None if settings.declaration is not None else Reader(reached, "declared"),
            prefix=reached.topic_prefix,
            clock=time.monotonic,
            wall_ns=time.time_ns,
            say=say,
            verdicts=settings.verdicts,
        )
        try:
            with served(settings.metrics, detecting.figures):
                detecting.read_declarations(stopping)
                while not stopping():
                    detecting.step()
        finally:
            detecting.close()
    return DONE


def store(arguments: argparse.Namespace, ending: Ending) -> int:
    """`hopwatch store`.

    Raises:
        ConfigError, LogError, StoreError: one line each.
    """
    settings = chosen(ScaleSettings, vars(arguments), arguments.config)
    postgres, hiding, _ = _database(settings, "store")
    reached = kafka({"bootstrap_servers": arguments.brokers}, arguments.config)
    try:
        keeping = Keeping.parse(settings.keep)
    except ValueError as error:
        raise ConfigError(f"keep: {error}") from None
    group = settings.group or "hopwatch-store"
    stopping = _Stop(settings.duration)
    with ending(stopping.ask):
        held = _patient(lambda: PostgresStore(postgres, hiding), stopping)
        if held is None:
            return DONE
        publisher: Publisher[None] = Publisher(reached, speaker="store")
        storing = Storing(
            partial(Subscriber, reached, group=group, kinds=STORED, member="store"),
            publisher,
            held,
            hiding,
            declared=Reader(reached, "declared"),
            # An unsigned one could call a person's account a service.
            editions=Editions(approvers=settings.approvers, unsigned=arguments.allow_unsigned),
            keeping=keeping,
            clock=time.monotonic,
            say=say,
            consumer=group,
        )
        try:
            with served(settings.metrics, storing.figures):
                storing.read_declarations(stopping)
                storing.tidy()
                while not stopping():
                    storing.step()
        finally:
            storing.close()
    return DONE


def _database(settings: ScaleSettings, command: str) -> tuple[str, Hiding, bytes]:
    """Where the database is, who hides persons, and the key of both pseudonyms and seals."""
    if settings.postgres is None:
        raise ConfigError(f"{command}: a database is needed: --postgres URI, or HOPWATCH_POSTGRES")
    if settings.key is None:
        raise ConfigError(f"{command}: the key of the pseudonyms is needed: --key FILE, the same for all that use the database")
    try:
        key = key_file(settings.key)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{command}: {error}") from None
    return settings.postgres.get_secret_value(), Hiding(key), key


def _patient(make: Callable[[], T], stopping: _Stop) -> T | None:
    """What ``make`` makes, as soon as the database is there; None if the run is asked to end before."""
    said = False
    while not stopping():
        try:
            return make()
        except StoreAway as error:
            if not said:
                say(f"waiting for the database: {error}")
                said = True
            time.sleep(AGAIN_S)
    return None
