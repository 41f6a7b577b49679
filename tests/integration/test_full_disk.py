"""A full disk, for real: store and log on a file system of a few hundred KiB (tmpfs, for root), else bounded by pages."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hopwatch.cli import main
from tests.test_cli import PLANT, Replay, flow, lines

# The log lies on the same disk: with this size, and 48 KiB less or more, there is still room in it when the store has none.
DISK_KIB = 1_648
BATCH, BATCHES = 50, 100


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[list[str]]:
    """A directory that holds DISK_KIB; the flags that bound a store in it where a mount is not allowed."""
    path.mkdir()
    mounted = os.geteuid() == 0 and (
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(path)], check=False, capture_output=True).returncode
        == 0
    )
    try:
        if mounted:
            yield []
        else:
            bounds = path / "bounds.toml"
            bounds.write_text(f"store_bytes_max = {DISK_KIB * 512}\nlog_bytes_max = {DISK_KIB * 512}\n")
            yield ["--config", str(bounds)]
    finally:
        if mounted:
            subprocess.run(["umount", str(path)], check=True)


def grow(path: Path) -> None:
    """Room for everything."""
    if path.is_mount():
        subprocess.run(["mount", "-o", "remount,size=64m", str(path)], check=True)


def watch(replay: Replay, *flags: str) -> int:
    return main(["watch", "-d", "plant.yaml", "-r", *replay.captures, "--at", "2026-04-07", "--json", *flags], sensors=replay)


def ids(store: Path, capsys: pytest.CaptureFixture[str]) -> set[str]:
    capsys.readouterr()
    main(["flows", "--store", str(store), "--json", "--limit", "100000"])
    return {str(one["event_id"]) for one in lines(capsys.readouterr().out)}


def test_a_full_disk_is_one_line_and_the_next_run_stores_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plant.yaml").write_text(PLANT)

    def capture() -> list[Any]:  # Any: the steps of a replay
        return [[flow(n, account="svc_report") for n in range(at, at + BATCH)] for at in range(0, BATCH * BATCHES, BATCH)]

    with small_disk(tmp_path / "disk") as bounds:
        disk = tmp_path / "disk"
        replay = Replay(a=capture())
        assert watch(replay, "--store", str(disk / "s.db"), *bounds) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1, said.err
        assert "no room for more records: the disk is full" in said.err
        assert 0 < replay.read_total < BATCH * BATCHES
        assert json.loads(said.out.splitlines()[-1])["kind"] == "summary"
        grow(disk)
        assert watch(Replay(b=[[]]), "--store", str(disk / "s.db")) == 1
        read = [event for batch in capture() for event in batch][: replay.read_total]
        assert watch(Replay(a=[read]), "--store", "roomy.db") == 1
        assert ids(disk / "s.db", capsys) == ids(Path("roomy.db"), capsys)
        # Read again from its start, the capture is stored whole.
        assert watch(Replay(a=capture()), "--store", str(disk / "s.db")) == 1
        assert len(ids(disk / "s.db", capsys)) == BATCH * BATCHES
