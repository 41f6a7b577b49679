"""deploy/systemd: systemd reads every unit, finds little left open, and each starts a command that there is."""

import re
import subprocess
from collections.abc import Mapping
from configparser import RawConfigParser
from pathlib import Path

import pytest

from examples.broker import ROOT
from hopwatch.cli import _parse
from tests.deploy.test_compose_file import settings_of

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PROGRAM = "/opt/hopwatch/.venv/bin/hopwatch"
EXPOSURE_MAX = 2.5
"""Of 10, as `systemd-analyze security` counts: the agent needs a packet socket and the host's network."""


@pytest.fixture(params=UNITS, ids=lambda path: path.stem)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit, its program in the place of one that is on this machine."""
    path: Path = request.param
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace(PROGRAM, "/bin/true"))
    return copy


def read(path: Path) -> Mapping[str, str]:
    """Its last word on each key of [Service]."""
    parser = RawConfigParser(strict=False, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # Keys are told apart by case.
    parser.read_string(path.read_text())
    return parser["Service"]


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", "--no-pager", *map(str, arguments)], check=False, capture_output=True, text=True)


def test_systemd_has_nothing_to_say_about_it(unit: Path) -> None:
    said = analyze("verify", "--man=no", unit)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_little_is_left_open(unit: Path) -> None:
    said = analyze("security", "--offline=true", unit).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found and float(found[1]) <= EXPOSURE_MAX, said


def test_packets_are_the_agents_alone_and_it_has_no_other_right() -> None:
    rights = {path.stem: (read(path)["CapabilityBoundingSet"], read(path)["AmbientCapabilities"]) for path in UNITS}
    assert rights.pop("hopwatch-agent") == ("CAP_NET_RAW", "CAP_NET_RAW")
    assert set(rights.values()) == {("", "")}


def test_it_starts_a_command_that_there_is_with_variables_that_are_known(unit: Path) -> None:
    written = (ROOT / "deploy" / "systemd" / unit.name).read_text()
    (command,) = re.findall(rf"^ExecStart={PROGRAM} (.*)$", written, re.MULTILINE)
    assert _parse(command.split()).config == Path(command.split("--config ")[1].split()[0])
    settings_of(dict(re.findall(r"^Environment=(\w+)=(.*)$", written, re.MULTILINE)))
    # Who says that it is ready has a program that says so.
    assert (read(unit)["Type"] == "notify") == (unit.stem == "hopwatch-agent") == ("WatchdogSec" in read(unit))
