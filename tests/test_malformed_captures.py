"""Whatever a capture holds, `inspect` and `watch -r` end with 0 or 1, soon, and say what could not be read."""

import contextlib
import gzip
import io
import os
import time
from pathlib import Path

import pytest

from hopwatch.cli import main

ROOT = Path(__file__).resolve().parent.parent
MALFORMED = Path(os.environ.get("TRACES") or ROOT.parent / "shared" / "traces") / "malformed"
RECORDING = ROOT / "tests" / "data" / "matrix" / "mqtt" / "paho-java-mosquitto-publish-and-subscribe-5.0-qos-0.pcap.gz"
SECONDS_MAX = 10.0
"""For one capture; the largest takes a tenth of a second."""


def ended(*command: str) -> tuple[int, str]:
    """Exit status and standard error; a test of hundreds of captures has no use for what they hold."""
    said = io.StringIO()
    started = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        status = main(list(command))
    assert time.monotonic() - started < SECONDS_MAX, command
    return status, "".join(line for line in said.getvalue().splitlines(keepends=True) if "UNSIGNED" not in line)


def both(capture: Path) -> list[tuple[int, str]]:
    watching = ("watch", "-d", str(ROOT / "examples" / "plant-north.yaml"), "--store", "none", "-r", str(capture))
    return [ended("inspect", "--json", str(capture)), ended(*watching)]


def test_every_malformed_capture_ends_with_0_or_1() -> None:
    captures = sorted(path for path in MALFORMED.glob("*") if path.suffix in (".pcap", ".pcapng"))
    if not MALFORMED.exists():
        print(f"{MALFORMED} is missing: only what the other test makes is shown")
    wrong = {capture.name: outcome for capture in captures for outcome in both(capture) if outcome[0] not in (0, 1)}
    assert wrong == {}


@pytest.mark.parametrize("cut", [24, 30, 41, 400])
def test_a_capture_cut_anywhere_is_read_up_to_there_and_said(cut: int, tmp_path: Path) -> None:
    capture = tmp_path / "cut.pcap"
    capture.write_bytes(gzip.decompress(RECORDING.read_bytes())[:cut])
    for status, said in both(capture):
        assert (status, "ends at offset" in said) == ((0, False) if cut == 24 else (1, True))


def test_link_types_that_nobody_reads_are_no_failure(tmp_path: Path) -> None:
    capture = tmp_path / "link.pcap"
    data = bytearray(gzip.decompress(RECORDING.read_bytes()))
    data[20:24] = (147).to_bytes(4, "little")
    capture.write_bytes(data)
    assert [status for status, _ in both(capture)] == [0, 0]


def test_what_is_no_capture_is_wrong_also_beside_one_that_is(tmp_path: Path) -> None:
    foreign = tmp_path / "text"
    foreign.write_text("no capture")
    assert [status for status, _ in both(foreign)] == [2, 2]
    declaration = str(ROOT / "examples" / "plant-north.yaml")
    status, said = ended("watch", "-d", declaration, "--store", "none", "-r", str(RECORDING), str(foreign))
    assert (status, "expected a pcap or pcapng file" in said) == (2, True)
