"""`hopwatch alerts run` as a program of its own: findings in a store become lines at a destination, through real time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alerts.book import book
from hopwatch import beside
from hopwatch.store.embedded import EmbeddedStore
from tests.alerts.said import finding


def test_run_goes_on_until_it_is_ended_and_takes_in_what_comes(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "hopwatch.db")
    command = [sys.executable, "-m", "hopwatch.cli", "alerts", "run", "--store", str(tmp_path / "hopwatch.db")]
    (tmp_path / "hopwatch.toml").write_text(f'[alerts.destinations.file]\nkind = "file"\naddress = "{tmp_path / "out.jsonl"}"\n')
    runner = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        assert runner.stderr is not None
        assert "alerts of" in runner.stderr.readline()
        store.add(findings=[finding(1).model_dump()])
        until = time.monotonic() + 30
        while not (tmp_path / "out.jsonl").exists() or not (tmp_path / "out.jsonl").read_text():
            assert time.monotonic() < until, "nothing was delivered"
            time.sleep(0.1)
        runner.send_signal(signal.SIGTERM)
        assert runner.wait(20) == 0
    finally:
        runner.kill()
        runner.wait()
        runner.stderr.close()
    said = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["finding"]["finding_id"] for one in said] == [finding(1).finding_id]
    store.close()


def test_beside_another_program_no_signal_but_the_end_of_its_input_ends_it_with_everything_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "hopwatch.db"
    store = EmbeddedStore(path)
    command = [sys.executable, "-m", "hopwatch.cli", "alerts", "run", "--until-eof", "--store", str(path)]
    runner = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE)
    try:
        assert runner.stdin is not None
        store.add(findings=[finding(1).model_dump()])
        made = book(str(path))
        until = time.monotonic() + 30
        while not made.alerts():
            assert time.monotonic() < until, "nothing was taken in"
            time.sleep(0.1)
        runner.send_signal(signal.SIGTERM)
        store.add(findings=[finding(number).model_dump() for number in range(2, 20)])
        runner.stdin.close()
        assert runner.wait(20) == 0
        assert len(made.alerts()) == 19
        made.close()
    finally:
        runner.kill()
        runner.wait()
    store.close()


def test_beside_another_program_it_is_begun_again_when_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(beside, "AGAIN_S", 0.05)
    path = tmp_path / "hopwatch.db"
    store = EmbeddedStore(path)
    running = beside.Beside("alerts", ["alerts", "run", "--until-eof", "--store", str(path)])
    os.kill(running.pid, signal.SIGKILL)
    first, until = running.pid, time.monotonic() + 30
    while running.pid == first:
        assert time.monotonic() < until, "it was not begun again"
        time.sleep(0.05)
    store.add(findings=[finding(1).model_dump()])
    assert running.stop()
    assert "alerts: their process ended with status -9, and is begun again" in capfd.readouterr().err
    made = book(str(path))
    assert len(made.alerts()) == 1
    made.close()
    store.close()


def test_beside_another_program_what_could_not_be_taken_in_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "hopwatch.db"
    broken.write_bytes(b"no database, whatever its name says " * 100)
    running = beside.Beside("alerts", ["alerts", "run", "--until-eof", "--store", str(broken)])
    assert not running.stop()
