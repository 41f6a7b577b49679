"""Every program works with the rights that docs/kafka.md gives it, and can do nothing more."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import psycopg
import pytest
from confluent_kafka.admin import AclOperation

from examples.broker import ROOT, Cluster
from hopwatch.bus.topics import topic_name
from hopwatch.cli import main
from tests.bus.real import allow, held

DAY = ROOT / "examples" / "plant-day.pcap.gz"
PLANT = ROOT / "examples" / "plant-demo.yaml"
DESCRIBE, CREATE, SHOW = AclOperation.DESCRIBE, AclOperation.CREATE, AclOperation.DESCRIBE_CONFIGS
WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Site:
    """The topics of one plant on a cluster where everybody has to say who they are."""

    broker: Cluster
    prefix: str
    folder: Path

    def environment(self, account: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOPWATCH_")}
        said = {
            "BOOTSTRAP_SERVERS": self.broker.bootstrap_scram,
            "SECURITY_PROTOCOL": "SASL_SSL",
            "SASL_USERNAME": account,
            "SASL_PASSWORD": self.broker.passwords[account],
            "CA_FILE": str(self.broker.authority.certificate),
            "TOPIC_PREFIX": self.prefix,
        }
        return kept | {f"HOPWATCH_KAFKA_{name}": value for name, value in said.items()}

    def run(self, account: str, *arguments: str) -> tuple[int, str]:
        """A command that ends by itself: its exit code and standard error."""
        said = io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment(account), clear=True),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(said),
        ):
            return main(list(arguments)), said.getvalue().strip()

    @contextlib.contextmanager
    def running(self, account: str, *arguments: str) -> Iterator[Path]:
        """A program that runs until it is asked to end; its standard error."""
        log = self.folder / f"{account}.log"
        command = [sys.executable, "-m", "hopwatch.cli", *arguments]
        with log.open("wb") as said:
            process = subprocess.Popen(command, env=self.environment(account), cwd=ROOT, stdout=said, stderr=said)
        try:
            yield log
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT_S) == 0, log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def names(self, *kinds: str) -> list[str]:
        return [topic_name(kind, self.prefix) for kind in kinds]


@pytest.fixture
def site(broker: Cluster, prefix: str, tmp_path: Path) -> Site:
    """One plant's prefix, and the rights as the page has them."""
    made = Site(broker, prefix, tmp_path)
    for operation in (CREATE, DESCRIBE, SHOW):
        allow(broker, "operator", operation, prefix)
    granted = {"operator": "apply", "agent-north": "agent", "detector": "detect", "store": "store"}
    for account, role in granted.items():
        group = ["--group", f"{prefix}{role}"] if role in ("detect", "store") else []
        assert made.run("admin", "topics", "grant", role, account, *group) == (0, "")
    return made


def until(condition: Callable[[], bool], what: str, *logs: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}; {[log.read_text() for log in logs]}"
        time.sleep(0.2)


def test_every_program_works_with_its_rights_and_an_agent_speaks_for_no_other_plant(site: Site, postgres: str) -> None:
    allowed = ["--allow-unsigned", "--allow-dirty"]
    assert site.run("operator", "topics", "create", "--partitions", "2") == (0, "")
    assert site.run("operator", "declared", "apply", str(PLANT), *allowed) == (0, "")
    code, said = site.run("agent-north", "declared", "apply", str(PLANT), *allowed, "--allow-older")
    assert code == 2
    (line,) = said.splitlines()
    assert f"{site.prefix}hopwatch.declared.v1" in line and "AUTHORIZATION_FAILED" in line
    for plant in ("demo", "south"):  # The second is another's, under this one's prefix: Kafka cannot tell.
        spool = str(site.folder / f"{plant}.spool")
        assert site.run("agent-north", "agent", "-r", str(DAY), "--plant", plant, "--spool", spool)[0] == 0
    there = ["--postgres", postgres, "--key", str(site.folder / "key"), "--allow-unsigned"]
    with (
        site.running("detector", "detect", *there, "--group", f"{site.prefix}detect") as judging,
        site.running("store", "store", *there, "--group", f"{site.prefix}store") as storing,
    ):
        until(lambda: "not judged: south" in judging.read_text(), "the other plant's events are said", judging)
        until(lambda: _kept(postgres)[0] > 0, "findings are kept", judging)
        until(lambda: _kept(postgres)[1] > 0, "flows are kept", storing)
    assert _kept(postgres)[2] == {"demo"}, "nobody is found guilty by an agent of another plant"
    assert "AUTHORIZATION" not in judging.read_text() + storing.read_text()
    assert held(site.broker, site.names("finding")[0])


def test_an_account_is_made_with_its_password_and_then_let_in_with_another(site: Site, broker: Cluster) -> None:
    account, first, second = f"new-{site.prefix.strip('.')}"[:60], site.folder / "first", site.folder / "second"
    first.write_text("one-random-password\n")
    second.write_text("another-random-password\n")
    assert site.run("admin", "topics", "create", "--partitions", "2") == (0, "")
    for given in (first, second):
        assert site.run("admin", "topics", "grant", "agent", account, "--password-file", str(given)) == (0, "")
    with mock.patch.dict(broker.passwords, {account: "another-random-password"}):  # type: ignore[arg-type]  # It is a dict.
        spool = str(site.folder / "spool")
        assert site.run(account, "agent", "-r", str(DAY), "--plant", "demo", "--spool", spool) == (0, "")
        code, said = site.run(account, "topics", "grant", "store", account)
        assert code == 2 and said, "nobody gives himself rights"


def _kept(postgres: str) -> tuple[int, int, set[str]]:
    """Findings and flows in the database, and the plants of the findings."""
    with psycopg.connect(postgres) as db:
        if db.execute("SELECT to_regclass('findings'), to_regclass('flows')").fetchone() == (None, None):
            return 0, 0, set()
        plants = [row[0] for row in db.execute("SELECT plant FROM findings").fetchall()]
        (flows,) = db.execute("SELECT count(*) FROM flows").fetchone() or (0,)
    return len(plants), int(flows), set(plants)
