"""`hopwatch alerts run` as a program of its own: findings in a store become lines at a destination, through real time."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

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
