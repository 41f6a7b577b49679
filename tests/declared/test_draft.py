"""A draft is what was observed in the words of the file, and loads only once a person has decided what only a person can."""

from pathlib import Path
from typing import Any

import pytest

from hopwatch.cli import main
from hopwatch.declared.draft import DECIDE, draft
from hopwatch.declared.load import loads
from hopwatch.declared.model import Architecture
from hopwatch.declared.problem import ArchitectureError

DEMO = Path(__file__).parents[2] / "examples" / "plant-demo.yaml"
Json = dict[str, Any]  # Any: one JSON object.


@pytest.fixture
def architecture() -> Architecture:
    return loads(DEMO.read_text(), DEMO.name)


def finding(**said: Any) -> Json:  # Any: JSON values.
    return {
        "kind": "finding", "finding_id": "F-7c1e9a02", "verdict": "undeclared-hop", "severity": "critical", "plant": "demo",
        "first_seen": "2026-04-07T10:33:02Z", "last_seen": "2026-04-07T10:42:10Z", "windows": 540, "who": "svc_report",
        "client": "10.40.9.77", "source": "mes-db", "destination": "10.40.9.77", "nearest_hop": "extract-quality",
        "observed": {"rows": 1_204_331, "bytes": 851_443_712, "objects": ["mes.genealogy", "mes.audit"], "classes": ["process_ip"]},
        "differences": [{"question": "who", "declared": "svc_mw at mw", "observed": "svc_report at 10.40.9.77"}],
    } | said  # fmt: skip


FLOW: Json = {"operation": "select", "protocol": "postgresql", "protection": {"transport": "none", "authentication": "scram-sha-256"}}


def put_into(file: str, text: str) -> str:
    """The file with the draft's sections at the end of its own, as a person would paste them."""
    sections: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and line[0] not in " #":
            name = line.split(":")[0]
            sections[name] = []
        elif line.startswith("  "):
            sections[name].append(line)
    for name, lines in sections.items():
        head, mark, tail = file.partition(f"\n{name}:")
        end = tail.find("\n\n") if "\n\n" in tail else len(tail)
        file = head + mark + tail[:end].rstrip() + "\n" + "\n".join(lines) + tail[end:]
    return file


def test_a_draft_says_what_moved_in_the_words_of_the_file(architecture: Architecture) -> None:
    text = draft(architecture, finding(), [FLOW])
    for line in (
        "  svc_report: {kind: DECIDE, owner: DECIDE, from: [host-10-40-9-77], auth: scram-sha-256}",
        '  host-10-40-9-77: {zone: analytics, kind: DECIDE, at: "10.40.9.77"}',
        "  data-mes-db: {class: DECIDE, in: [mes-db], tables: [mes.audit]}",
        "  mes-db-to-host-10-40-9-77:",
        "    who: svc_report",
        "    may: [select]",
        "    what: [genealogy, data-mes-db]",
    ):
        assert line in text.splitlines(), text
    assert "limit: 2M rows / 1d" in text and "who: svc_mw at mw -> svc_report at 10.40.9.77" in text
    assert text == draft(architecture, finding(), [FLOW])


def test_a_draft_does_not_load_before_and_loads_after_everything_is_decided(architecture: Architecture) -> None:
    whole = put_into(DEMO.read_text(), draft(architecture, finding(), [FLOW]))
    with pytest.raises(ArchitectureError) as refused:
        loads(whole, DEMO.name)
    assert DECIDE in str(refused.value)
    decided = whole
    for field, word in (
        ("{kind: DECIDE, owner: DECIDE", "{kind: service, owner: reports"), ("kind: DECIDE, at:", "kind: host, at:"),
        ("class: DECIDE", "class: production"), ("agent: DECIDE, sees: DECIDE", "agent: tap-demo, sees: decoded"),
        ("keep: DECIDE", "keep: 30d"), ("why: DECIDE", "why: yearly report"),
        ("by: DECIDE, ticket: DECIDE", "by: h.keller, ticket: CHG-7"),
    ):  # fmt: skip
        assert field in decided, field
        decided = decided.replace(field, word)
    hop = loads(decided, DEMO.name).hops["mes-db-to-host-10-40-9-77"]
    assert (hop.who, hop.via, [str(one) for one in hop.limit]) == ("svc_report", "c-site-ops-analytics", ["2M rows / 1d"])


def test_what_only_a_person_knows_is_never_made_up(architecture: Architecture) -> None:
    text = draft(architecture, finding(who="person:9176cae9a01954b2", observed={"bytes": 10}))
    assert f"who: {DECIDE}   # the store keeps this account as person:9176cae9a01954b2" in text
    assert f"what: [{DECIDE}]" in text and f"may: [{DECIDE}]" in text and "accounts:" not in text
    assert f"who: {DECIDE}   # the account could not be read" in draft(architecture, finding(who=None))


def test_what_may_never_leave_is_said_first(architecture: Architecture) -> None:
    text = draft(architecture, finding(destination="lake"))
    assert "process_ip may never leave the site, and lake is off site" in text


def test_a_declared_account_from_another_host_is_not_declared_again(architecture: Architecture) -> None:
    text = draft(architecture, finding(who="svc_mw"), [FLOW])
    assert "accounts:" not in text and "# Account svc_mw may come from mw alone, and came from host-10-40-9-77." in text


@pytest.mark.parametrize("text", ["evil: {x}\nhops:", "a # b", "*a", "- x", "on", "12", '"', "\x1b[2J", "{a}", "&b"])
def test_names_off_the_wire_stay_names(architecture: Architecture, text: str) -> None:
    said = {"question": text, "declared": text, "observed": text}
    made = draft(architecture, finding(observed={"objects": [text], "bytes": 1}, differences=[said]))
    assert "\x1b" not in made and [line.split(":")[0] for line in made.splitlines() if line and line[0] not in " #"] == [
        "assets", "accounts", "data", "conduits", "hops",
    ]  # fmt: skip
    tree = loads_tree(made)
    (names,) = (entry["tables"] for entry in tree["data"].values())
    assert names == [text.replace("\n", "\N{REPLACEMENT CHARACTER}").replace("\x1b", "\N{REPLACEMENT CHARACTER}")]


def loads_tree(text: str) -> Any:  # Any: whatever YAML says.
    from hopwatch.declared.load import Marks, read_tree

    return read_tree(text, Marks("draft"))


def test_the_command_prints_the_draft_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hopwatch.store.embedded import EmbeddedStore

    store = tmp_path / "store.db"
    kept = EmbeddedStore(store, is_clear=lambda account: True)
    kept.add(findings=[finding(event_id="e" * 32)])
    kept.close()
    declaration = tmp_path / "plant.yaml"
    declaration.write_bytes(DEMO.read_bytes())
    assert main(["declared", "draft", "F-7c1e9a02", "-d", str(declaration), "--store", str(store)]) == 0
    assert "mes-db-to-host-10-40-9-77:" in capsys.readouterr().out
    assert declaration.read_bytes() == DEMO.read_bytes()
    assert main(["declared", "draft", "F-00000000", "-d", str(declaration), "--store", str(store)]) == 2
