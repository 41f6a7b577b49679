"""The run over a folder of captures: what it demands, with a comparison and a truth made here."""

import json
from pathlib import Path

import pytest

from scripts import conformance

HELLO = bytes.fromhex("101000044d5154540402003c000474657374")
"""CONNECT of MQTT 3.1.1 (OASIS MQTT 3.1.1, 3.1), client "test"."""


def frame(sequence: int, payload: bytes, flags: int = 0x18) -> bytes:
    ip = bytes.fromhex("4500") + (40 + len(payload)).to_bytes(2, "big") + bytes.fromhex("000040004006000070000001700000020000")[:16]
    tcp = bytes.fromhex("c350075b") + sequence.to_bytes(4, "big") + bytes(4) + bytes([0x50, flags]) + bytes.fromhex("ffff00000000")
    return bytes.fromhex("0202020202020202020202020800") + ip + tcp + payload


def capture(path: Path) -> None:
    frames = [frame(99, b"", 2), frame(100, HELLO)]
    records = b"".join((1).to_bytes(4, "little") + bytes(4) + len(f).to_bytes(4, "little") * 2 + f for f in frames)
    path.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000") + records)


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "traces" / "mqtt"
    folder.mkdir(parents=True)
    capture(folder / "one.pcap")
    (folder / "one.truth.json").write_text(json.dumps({"file": "one.pcap"}))
    return folder.parent


def comparing(path: Path, lines: str) -> Path:
    """A comparison that finds one conversation with facts of mqtt in the results, and prints ``lines``."""
    path.write_text(
        "import json, pathlib, sys\n"
        "results = pathlib.Path(sys.argv[sys.argv.index('--results') + 1]) / 'mqtt' / 'one.pcap.jsonl'\n"
        "kinds = [json.loads(line) for line in results.open()]\n"
        "assert [k['facts']['mqtt']['packets'] for k in kinds if k['kind'] == 'conversation'] == [{'CONNECT': 1}]\n"
        f"print({lines!r})\nsys.exit(1)\n"
    )
    return path


def report(lower: str = "") -> str:
    return "\n".join(f"{group:14} {0 if group == lower else 200:7} of     200 fields equal" for group in conformance.GROUPS)


def test_equal_groups_hold_and_a_group_below_the_goal_does_not(traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance.main([str(traces), "--compare", str(comparing(tmp_path / "a.py", report()))]) == conformance.HELD
    assert "conservation: 1 captures, 0 ends" in capsys.readouterr().out
    assert conformance.main([str(traces), "--compare", str(comparing(tmp_path / "b.py", report("tls")))]) == conformance.NOT_HELD
    assert "FAILED tls: 0.00 %" in capsys.readouterr().out


def test_no_captures_is_said_and_ends_well_only_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere, here = str(tmp_path / "nowhere"), str(tmp_path)
    assert conformance.main([nowhere, "--if-there"]) == conformance.HELD
    assert conformance.main([nowhere]) == conformance.MISSING
    assert conformance.main([here, "--compare", nowhere]) == conformance.MISSING
    assert capsys.readouterr().out.count(f"{nowhere} is missing") == 3


def test_a_capture_that_gives_an_exit_status_of_wrong_input_is_a_fault(
    traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (traces / "mqtt" / "one.pcap").read_bytes()
    compare = comparing(tmp_path / "a.py", report())
    (traces / "mqtt" / "one.pcap").write_bytes(whole + b"\0\0\0")
    assert conformance.main([str(traces), "--compare", str(compare)]) == conformance.HELD, "one that breaks off is status 1"
    (traces / "mqtt" / "other.pcap").write_bytes(b"GIF89a, surely")
    (traces / "mqtt" / "other.truth.json").write_text(json.dumps({"file": "other.pcap"}))
    assert conformance.main([str(traces), "--compare", str(compare)]) == conformance.NOT_HELD
    assert "exit status 2, whatever a capture holds 0 or 1 is wanted: other.pcap" in capsys.readouterr().out


DIFFERENT = """mqtt                 95 of     100 fields equal   95.00 %  <- below 99 %
    packets                          20 of     25  <- below 95 %
        one.pcap tcp:2: truth {'PUBLISH': 1} | got {'PUBLISH': 3}
        two.pcap tcp:0: truth {} | got missing"""

EXPLAINED = """## Where tshark is wrong
| group | capture | conversation | fields |
|---|---|---|---|
| mqtt | `one.pcap` | tcp:2 | packets, topics |

## Otherwise
| group | capture | conversation | fields |
|---|---|---|---|
| mqtt | `two.pcap` | all | all |
| mqtt | `gone.pcap` | all | all |
"""


def test_every_difference_is_explained_and_only_tsharks_faults_are_set_aside() -> None:
    compared = conformance.parsed(DIFFERENT.splitlines())
    assert [(d.capture, d.conversation, d.field) for d in compared.differences] == [
        ("one.pcap", "tcp:2", "packets"),
        ("two.pcap", "tcp:0", "packets"),
    ]
    table, faults = conformance.judged(compared, conformance.explanations(EXPLAINED))
    faults = [fault for fault in faults if fault.startswith(("mqtt", "not explained"))]
    assert faults == ["mqtt: 96.00 % of the fields equal, at least 99 % wanted", "mqtt: packets is equal in 20 of 25, at least 95 % wanted"]
    assert any("gone.pcap" in line for line in table)
    _, faults = conformance.judged(compared, [])
    assert sum("not explained" in fault for fault in faults) == 2


def test_the_tables_of_the_document_are_read() -> None:
    rows = conformance.explanations(conformance.EXPLAINED.read_text(encoding="utf-8"))
    assert rows
    assert {row.group for row in rows} <= {*conformance.GROUPS}
