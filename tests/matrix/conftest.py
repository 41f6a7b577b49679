"""The servers of a run, and the table printed at the end of one that filled it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix.run import Bench, bench
from tests.matrix.table import Report, lines

TABLE = pytest.StashKey[Report]()


@pytest.fixture(scope="session")
def live(request: pytest.FixtureRequest) -> Iterator[Bench]:
    # Not pytest's own folder: another run closes that one to the servers' unprivileged user.
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder, bench(Path(folder)) as made:
        request.config.stash[TABLE] = made.report
        yield made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash.get(TABLE, None)
    if report is None:
        return
    terminalreporter.section("verb x client x server (* from a recording)")
    for line in lines(report):
        terminalreporter.write_line(line)
