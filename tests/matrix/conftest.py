"""Prints the table at the end of a run that filled it."""

import pytest

from tests.matrix.table import lines
from tests.matrix.test_matrix import TABLE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash.get(TABLE, None)
    if report is None:
        return
    terminalreporter.section("verb x client x server (* from a recording)")
    for line in lines(report):
        terminalreporter.write_line(line)
