"""What hopwatch itself moves is drafted from its settings: complete, without a secret, and loading only once a person has decided."""

import re
from pathlib import Path

import pytest

from hopwatch.cli import main
from hopwatch.declared.load import loads
from hopwatch.declared.problem import ArchitectureError
from tests.declared.test_draft import DEMO, put_into

SETTINGS = """
store = "hopwatch.db"
[kafka]
bootstrap_servers = "10.30.0.50:9093,10.30.0.51:9093"
security_protocol = "SASL_SSL"
sasl_username = "hopwatch-detect"
sasl_password_file = "/run/secrets/kafka"
topic_prefix = "north."
[alerts.destinations.siem]
kind = "syslog"
address = "tls://10.40.8.9:6514"
[alerts.destinations.desk]
kind = "webhook"
address = "https://desk.example.org/hook"
token_file = "/run/secrets/desk"
[alerts.destinations.near]
kind = "webhook"
address = "http://127.0.0.1:9/hook"
[alerts.destinations.siem-file]
kind = "file"
address = "/var/log/alerts.jsonl"
[console]
address = "10.30.0.20:8710"
[vault]
address = "https://10.30.0.70:8200"
path = "hopwatch"
"""
DATABASE = "postgresql://keeper:not-to-be-seen@10.30.0.60/hopwatch"


def drafted(capsys: pytest.CaptureFixture[str], folder: Path, text: str, *more: str) -> str:
    config = folder / "hopwatch.toml"
    config.write_text(text)
    assert main(["declared", "draft", "self", "-d", str(DEMO), "--config", str(config), *more]) == 0
    return capsys.readouterr().out


def test_every_hop_of_its_own_is_drafted_with_what_the_settings_say(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOPWATCH_POSTGRES", DATABASE)
    text = drafted(capsys, tmp_path, SETTINGS, "--host", "10.30.0.20")
    assert re.findall(r"^  (hopwatch-[a-z-]+):$", text, re.MULTILINE) == [
        "hopwatch-publishes", "hopwatch-reads", "hopwatch-keeps", "hopwatch-looks-up", "hopwatch-tells-siem", "hopwatch-tells-desk",
        "hopwatch-shows", "hopwatch-fetches-secrets",
    ]  # fmt: skip
    for line in (
        '  kafka: {zone: idmz, kind: kafka, members: ["10.30.0.50:9093", "10.30.0.51:9093"]}',
        '  siem: {zone: analytics, kind: soc, at: "10.40.8.9:6514"}',
        '  desk: {zone: DECIDE, kind: soc, at: "desk.example.org:443"}',
        "  hopwatch-detect: {kind: service, owner: DECIDE, from: [mw], auth: scram-sha-256}",
        "  keeper: {kind: service, owner: DECIDE, from: [mw], auth: scram-sha-256}",
        "    via: c-ml",
    ):
        assert line in text.splitlines(), line
    assert 'topics: ["north.hopwatch.*"]' in text
    for secret in ("not-to-be-seen", "/run/secrets"):
        assert secret not in text


def test_it_loads_only_once_a_person_has_decided(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOPWATCH_POSTGRES", DATABASE)
    before = DEMO.read_bytes()
    whole = put_into(DEMO.read_text(), drafted(capsys, tmp_path, SETTINGS, "--host", "10.30.0.20"))
    with pytest.raises(ArchitectureError):
        loads(whole, "plant.yaml")
    decided = {
        "zone": "idmz", "class": "telemetry", "limit": "2 GiB / 1d", "keep": "30d", "sees": "sizes", "at": "10.30.0.99",
        "agent": "tap-demo", "owner": "soc", "by": "h.keller", "ticket": "CHG-1", "to": "idmz",
    }  # fmt: skip
    for field, value in decided.items():
        whole = whole.replace(f"{field}: DECIDE", f"{field}: {value}")
    assert "DECIDE" not in whole
    # Of both ends in one zone there is no way through a conduit.
    whole = re.sub(r"    via: c-[\w-]*DECIDE\w*|    via: c-new", "    agent: tap-demo\n    sees: sizes", whole)
    whole = re.sub(r"^  c-new:.*\n", "", whole, flags=re.MULTILINE)
    assert {"hopwatch-publishes", "hopwatch-tells-siem"} <= set(loads(whole, "plant.yaml").hops)
    assert DEMO.read_bytes() == before


def test_a_host_of_its_own_that_moves_nothing_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = drafted(capsys, tmp_path, 'store = "x.db"\n')
    assert "nothing leaves this host" in text and "hops:" not in text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[kafka]\nbootstrap_servers = "10.1.1.1:port"\n', "no such port|expected"),
        ('postgres = "host=10.1.1.1 pass"\n', "expected a URI"),
        ('[alerts.destinations.siem]\nkind = "webhook"\n', "the address of siem: expected one such as"),
        ('[alerts.destinations.siem]\nkind = "webhook"\naddress = "https://u:pass/word@10.30.0.9/x"\n', "the address of siem: expected"),
    ],
)
def test_what_is_no_address_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, why: str) -> None:
    config = tmp_path / "hopwatch.toml"
    config.write_text(text)
    assert main(["declared", "draft", "self", "-d", str(DEMO), "--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert re.search(why, said) and len(said.strip().splitlines()) == 1
    assert "pass" not in said
