"""One capture, however it is read, gives the same events; and what cannot be read is one clear line and exit code 2."""

import contextlib
import gzip
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.plant.watched import hopwatch, replay, stored_flows
from tests.integration.ways import Recorded

PIECE = 1337


def _lines(finished: "subprocess.CompletedProcess[bytes]") -> list[str]:
    """Standard error without the notice that every run of an unsigned declaration begins with."""
    return [line for line in finished.stderr.decode().splitlines() if "UNSIGNED" not in line]


def _watch(*arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(hopwatch("watch", *arguments), input=stdin, capture_output=True, check=False, timeout=60)


def test_reading_a_capture_twice_adds_nothing(recorded: Recorded, tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    first, _ = replay([recorded.capture], recorded.declaration, store)
    once = stored_flows(store)
    second, _ = replay([recorded.capture], recorded.declaration, store)
    assert [event for _, event in first.of("flow")] == [event for _, event in second.of("flow")]
    assert once
    assert stored_flows(store) == once


def test_capture_in_pieces_through_standard_input_gives_the_same_events(recorded: Recorded, tmp_path: Path) -> None:
    whole, _ = replay([recorded.capture], recorded.declaration, tmp_path / "whole.db")
    plain = gzip.decompress(recorded.capture.read_bytes())
    arguments = hopwatch("watch", "-d", str(recorded.declaration), "-r", "-", "--store", "none", "--json")
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    for start in range(0, len(plain), PIECE):
        process.stdin.write(plain[start : start + PIECE])
        process.stdin.flush()
        if start % (PIECE * 64) == 0:
            time.sleep(0.001)  # Lets the reader find an empty pipe now and then.
    output, _ = process.communicate(timeout=60)
    flows = [event for line in output.splitlines() if (event := json.loads(line))["kind"] == "flow"]
    assert flows == [event for _, event in whole.of("flow")]


def test_broken_declaration_is_one_line_with_its_place(recorded: Recorded, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(recorded.declaration.read_text(encoding="utf-8").replace("via: c-cell", "via: c-sell"), encoding="utf-8")
    finished = _watch("-d", str(broken), "-r", str(recorded.capture), "--store", "none")
    lines = _lines(finished)
    assert finished.returncode == 2
    assert len(lines) == 1
    assert "c-sell" in lines[0]
    assert "broken.yaml:" in lines[0]


def test_truncated_capture_is_read_as_far_as_it_goes_and_named_in_one_line(recorded: Recorded, tmp_path: Path) -> None:
    plain = gzip.decompress(recorded.capture.read_bytes())
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(plain[: len(plain) // 2])
    watch, code = replay([cut], recorded.declaration, tmp_path / "store.db")
    assert code == 1
    assert len(watch.errors) == 1
    assert "cut.pcap" in watch.errors[0]
    assert stored_flows(tmp_path / "store.db")


def test_missing_interface_is_one_line(recorded: Recorded) -> None:
    finished = _watch("-d", str(recorded.declaration), "-i", "nosuch0", "--store", "none")
    assert finished.returncode == 2
    assert len(_lines(finished)) == 1
    assert "nosuch0" in _lines(finished)[0]


def test_missing_capture_is_one_line(recorded: Recorded, tmp_path: Path) -> None:
    finished = _watch("-d", str(recorded.declaration), "-r", str(tmp_path / "none.pcap"), "--store", "none")
    assert finished.returncode == 2
    assert len(_lines(finished)) == 1
    assert "none.pcap" in _lines(finished)[0]


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[list[str]]:
    """A file system of 64 KiB where that may be mounted; elsewhere a prefix that bounds what the command may write."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False)
    try:
        yield [] if mounted.returncode == 0 else ["prlimit", "--fsize=65536"]
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def test_full_disk_is_one_line(recorded: Recorded, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with _small_disk(folder) as bounded:
        arguments = ["-d", str(recorded.declaration), "-r", str(recorded.capture), "--store", str(folder / "store.db")]
        finished = subprocess.run([*bounded, *hopwatch("watch", *arguments)], capture_output=True, check=False, timeout=60)
    assert finished.returncode == 2
    assert len(_lines(finished)) == 1
    assert "store" in _lines(finished)[0]


@pytest.mark.parametrize("command", ["flows", "findings"])
def test_listing_a_store_that_does_not_exist_is_one_line(tmp_path: Path, command: str) -> None:
    finished = subprocess.run(hopwatch(command, "--store", str(tmp_path / "none.db")), capture_output=True, check=False)
    assert finished.returncode == 2
    assert len(_lines(finished)) == 1
