"""One real Kafka broker and one real PostgreSQL for all tests of a run, each test with topics and a database of its own."""

import itertools
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from examples.broker import Cluster, kafka, missing
from examples.database import Database, database

ACCOUNTS = ("agent-north", "agent-south", "detector", "operator", "store", "stranger")
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running broker; a test that stops it starts it again. ``ACCOUNTS`` have SCRAM passwords; ``stranger`` never gets a right."""
    lacking = missing()
    if lacking:
        pytest.fail(f"{lacking}; `make setup` brings it")
    with kafka(tmp_path_factory.mktemp("kafka") / "cluster", accounts=ACCOUNTS) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A running PostgreSQL; a test that stops it starts it again."""
    # The folder that pytest makes is closed to the unprivileged user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="hopwatch-postgresql-") as folder:
        Path(folder).chmod(0o755)
        # Tests end processes, not the machine: what was written is in the kernel's hands. Waiting for the disk, and after a kill going
        # through every file of every test's database, would take minutes and show nothing.
        with database(Path(folder) / "server", fsync="off") as started:
            yield started


@pytest.fixture
def postgres(server: Database) -> Iterator[str]:
    """The URI of a database of this test's own, gone with it: a hundred of them are fifty thousand files."""
    name = f"t{next(_numbers)}"
    yield server.uri(name)
    server.drop(name)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """What this test's topics, groups and transactional ids begin with, so that tests share a broker and no topic."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").casefold())[:60].strip("-")
    return f"t{next(_numbers)}.{name}."


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """What the broker said stands beside the failure of a test that used it."""
    report = cast(pytest.TestReport, (yield))
    used = getattr(item, "funcargs", {}).get("broker")
    if report.failed and isinstance(used, Cluster):
        report.sections.append(("Kafka", used.said()))
    return report
