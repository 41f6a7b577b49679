"""Where alerts go is told by the settings file; what is wrong there is said with file, table, key and what was expected."""

import os
import re
from pathlib import Path

import pytest

from alerts.settings import KINDS, FileSettings, WebhookSettings
from hopwatch.config import ConfigError, alerts, settings
from hopwatch.events import Decision
from tests.alerts.letters import alert

SIEM = '[alerts.destinations.siem]\nkind = "webhook"\naddress = "https://siem.example/in"\n'


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("HOPWATCH_")]:
        monkeypatch.delenv(name)


def _file(text: str) -> None:
    Path("hopwatch.toml").write_text(text)


def _secret(name: str) -> str:
    of = alerts().destinations["siem"]
    value = getattr(of, name)
    return str(value.get_secret_value())


def test_without_a_table_there_is_no_destination() -> None:
    assert alerts().destinations == {}


def test_every_kind_is_read_from_the_same_file_as_the_rest() -> None:
    Path("token").write_text("t\n")
    _file(
        'store = "x.db"\n[alerts]\ncanary_s = 3600\nmetrics = "127.0.0.1:9465"\n'
        '[alerts.destinations.a]\nkind = "syslog"\naddress = "tls://siem.example:6514"\nmin_severity = "medium"\n'
        '[alerts.destinations.b]\nkind = "webhook"\naddress = "https://hook.example/x"\n'
        '[alerts.destinations.c]\nkind = "splunk"\naddress = "https://splunk.example:8088"\ntoken_file = "token"\n'
        '[alerts.destinations.d]\nkind = "alertmanager"\naddress = "http://127.0.0.1:9093"\n'
        '[alerts.destinations.e]\nkind = "mail"\naddress = "smtp://mail.example:587"\nsender = "h@a.example"\n'
        'recipients = ["s@a.example"]\n'
        '[alerts.destinations.f]\nkind = "kafka"\n'
        '[alerts.destinations.g]\nkind = "file"\naddress = "alerts.jsonl"\n'
    )
    found = alerts()
    assert [of.kind for of in found.destinations.values()] == list(KINDS)
    assert found.canary_s == 3600 and isinstance(found.destinations["g"], FileSettings)
    assert settings({}).store == "x.db"  # the other commands pass over the table


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[alerts]\ncanary = 5\n', r"hopwatch\.toml \[alerts\]: unknown key canary: did you mean canary_s\?"),
        (SIEM + 'adress = "x"\n', r"hopwatch\.toml \[alerts\.destinations\.siem\]: unknown key adress: did you mean address\?"),
        ('[alerts.destinations.siem]\nkind = "sylog"\n', r"\[alerts\.destinations\.siem\] kind: expected one of syslog, .*, got 'sylog'"),
        ('[alerts.destinations.siem]\naddress = "x"\n', r"\[alerts\.destinations\.siem\] kind: expected one of syslog, webhook"),
        ('[alerts.destinations.SIEM]\nkind = "kafka"\n', r"\[alerts\.destinations\.SIEM\]: expected a name of at most 40"),
        (SIEM.replace("https://", "ftp://"), r"\[alerts\.destinations\.siem\] address: expected https://host or http://host"),
        (SIEM.replace("https://", "https://user:pw@"), r"address: no name or password stands in an address"),
        (SIEM.replace('"webhook"', '"syslog"'), r"address: expected udp://host:port or tcp://host:port or tls://host:port"),
        (SIEM + 'min_severity = "bad"\n', r"min_severity: input should be 'info', 'low', 'medium', 'high' or 'critical'"),
        (SIEM + 'certificate_file = "x"\n', r"certificate_file and key_file need one another"),
        (SIEM + 'token_file = "nowhere"\n', r"\[alerts\.destinations\.siem\] token_file: nowhere: No such file or directory"),
        (SIEM + 'token = "s3cret"\n', r"token: a secret comes from HOPWATCH_ALERTS_SIEM_TOKEN, a vault, or the file of token_file"),
        (SIEM.replace("webhook", "splunk"), r"token_file: needed, or HOPWATCH_ALERTS_SIEM_TOKEN, or a vault"),
        ("[alerts]\ndestinations = 3\n", r"\[alerts\] destinations: expected tables, \[alerts\.destinations\.NAME\]"),
    ],
)  # fmt: skip
def test_wrong_setting_is_said_with_its_place(text: str, said: str) -> None:
    _file(text)
    with pytest.raises(ConfigError, match=said) as error:
        alerts()
    assert "s3cret" not in str(error.value) and "pw@" not in str(error.value)


def test_more_destinations_than_the_bound_are_refused() -> None:
    _file("".join(f'[alerts.destinations.d{n}]\nkind = "kafka"\n' for n in range(33)))
    with pytest.raises(ConfigError, match="33 destinations, expected at most 32"):
        alerts()


def test_secret_comes_from_a_file_or_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("token").write_text("from-file\n")
    _file(SIEM + 'token_file = "token"\n')
    assert _secret("token") == "from-file"
    monkeypatch.setenv("HOPWATCH_ALERTS_SIEM_TOKEN", "from-environment")
    assert _secret("token") == "from-environment"
    assert "from-environment" not in repr(alerts())
    settings({})  # another command knows the variable is not its own
    monkeypatch.setenv("HOPWATCH_ALERTS_SIEM_TOKE", "x")
    with pytest.raises(ConfigError, match=r"unknown key HOPWATCH_ALERTS_SIEM_TOKE: did you mean HOPWATCH_ALERTS_SIEM_TOKEN\?"):
        alerts()


def test_vault_is_stronger_than_file_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    _file(SIEM + '[vault]\naddress = "https://vault.example:8200"\npath = "hopwatch"\ntoken_file = "t"\n')
    asked: list[tuple[str, ...]] = []

    def held(_: object, names: tuple[str, ...]) -> dict[str, str]:
        asked.append(names)
        return {"alerts_siem_secret": "from-vault"}

    monkeypatch.setattr("agent.vault.Vault.held", held)
    monkeypatch.setenv("HOPWATCH_ALERTS_SIEM_SECRET", "from-environment")
    assert _secret("secret") == "from-vault"
    assert asked[0] == ("alerts_siem_secret", "alerts_siem_token", "alerts_siem_key_password")


def test_filter_chooses_by_severity_verdict_plant_and_whom_it_is_for() -> None:
    def wants(event: object = None, **said: object) -> bool:
        of = WebhookSettings.model_validate({"kind": "webhook", "address": "https://x.example"} | said)
        return of.wants(event or alert())  # type: ignore[arg-type]  # an alert or a decision

    assert wants() and wants(min_severity="critical") and not wants(alert(severity="high"), min_severity="critical")
    assert wants(verdicts=["undeclared-hop"]) and not wants(verdicts=["over-limit"])
    assert wants(plants=["north"]) and not wants(plants=["south"])
    assert wants(alert(notify=False)) and not wants(alert(notify=False), notify_only=True)
    decision = Decision(event_id="d", plant="north", time="2026-04-07T10:42:08Z", person="a", action="acknowledge", reason="seen")
    assert not wants(decision) and wants(decision, decisions=True) and not wants(decision, decisions=True, plants=["south"])


def test_every_setting_says_what_it_is() -> None:
    for model in KINDS.values():
        for name, field in model.model_fields.items():
            assert field.description or name in ("kind", "format", "notify_only", "decisions", *model.SECRETS), name
            assert not re.search(r"(password|secret|token)$", name) or name in model.SECRETS, name
