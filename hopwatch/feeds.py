"""Server logs beside, or instead of, packets: which of them a command reads, and their events among those of the capture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.clock import ClockState
from agent.health import Health, beating
from collectors.postgresql_log import POLL_S, PostgresqlLog, Source
from hopwatch.config import CaptureSettings, ConfigError

LOGS_MAX = 64

TURNS_MAX = 16
"""Pieces of one log that are read before the capture has its turn again."""


class Feeds:
    """The logs of the settings, each under its own name as the declaration's ``feed`` says it."""

    def __init__(self, settings: CaptureSettings, plant: str, version: str) -> None:
        """Opens them.

        Raises:
            ConfigError, CaptureError: one line each.
        """
        if len(settings.postgresql_log) > LOGS_MAX:
            raise ConfigError(f"postgresql_log: {len(settings.postgresql_log)} logs, expected at most {LOGS_MAX}")
        self._plant, self._version = plant, version
        self._logs: list[tuple[str, PostgresqlLog]] = []
        for text in settings.postgresql_log:
            source = Source.named(text, settings.agent)
            state = state_of(settings.postgresql_log_state, source)
            self._logs.append((source.feed, PostgresqlLog(source, plant, state)))

    def __len__(self) -> int:
        return len(self._logs)

    def names(self) -> list[str]:
        """The names the events bear."""
        return [name for name, _ in self._logs]

    def counters(self) -> dict[str, int]:
        """What all logs have counted."""
        said: dict[str, int] = {}
        for _, log in self._logs:
            for name, count in log.counters().items():
                said[name] = said.get(name, 0) + count
        return said

    def examples(self) -> list[str]:
        """Where lines lie that could not be read, one for each log that has any."""
        counted = [(name, log.example, log.counters()["postgresql_log_unreadable"]) for name, log in self._logs if log.example]
        return [f"{name}: {example} (in all {count})" for name, example, count in counted]

    def alongside(
        self, batches: Iterator[list[bytes]] | None, stopping: Callable[[], bool], *, live: bool, beat: bool
    ) -> Iterator[list[bytes]]:
        """The batches of a capture with those of the logs; of the logs alone if there is no capture.

        ``live``: the logs are followed until ``stopping``, else read to their end. ``beat``: each says in heartbeats that it lives.

        Raises:
            CaptureError: as the capture does, or a log cannot be read any more.
        """
        if not self._logs:
            yield from batches or ()
            return
        logs = [self._beating(name, log, stopping, live=live, beat=beat) for name, log in self._logs]
        if batches is not None:
            for batch in batches:
                yield batch
                for one in logs if live else ():
                    yield from _turn(one)
        while live and not stopping():
            for one in logs:
                yield from _turn(one)
            time.sleep(POLL_S)
        for one in logs:
            yield from one

    def _beating(self, name: str, log: PostgresqlLog, stopping: Callable[[], bool], *, live: bool, beat: bool) -> Iterator[list[bytes]]:
        batches = log.batches(stopping, follow=live, sleep=lambda seconds: None)
        if not beat:
            return batches
        return beating(batches, Health(self._plant, name, self._version, ClockState()), log.counters, time.monotonic, time.time_ns)


def _turn(batches: Iterator[list[bytes]]) -> Iterator[list[bytes]]:
    for _ in range(TURNS_MAX):
        batch = next(batches, None)
        if not batch:
            return
        yield batch


def state_of(path: Path, source: Source) -> Path:
    """The file in which the place in one log is kept."""
    return path.with_name(f"{path.name}.{source.feed}.{source.address.replace(':', '_')}.{source.port}")
