"""`hopwatch declared apply` against a real broker: what goes in is what everybody reads, and what must not go in does not."""

import json
from pathlib import Path

import pytest

from examples.broker import Cluster
from hopwatch.apply import in_force
from hopwatch.cli import main
from hopwatch.declared.edition import architecture_of
from tests.bus.real import clear, held, make_topics
from tests.declared.repository import TEXT, Plant, repository

DAY = "2026-04-07"


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    made = repository(tmp_path)
    commit(made, TEXT)
    return made


def commit(plant: Plant, text: str) -> None:
    """A change that h.keller approved."""
    plant.commit(text, "--author", "A. Ruiz <a.ruiz@example.com>", by="h.keller", key="keller")


def at_version(version: int) -> str:
    changed = TEXT.replace("\nversion: 14 ", f"\nversion: {version} ")
    assert changed != TEXT
    return changed


def apply(plant: Plant, broker: Cluster, prefix: str, *flags: str) -> int:
    there = ["--bootstrap-servers", broker.bootstrap, "--topic-prefix", prefix]
    return main(["declared", "apply", str(plant.path), "--at", DAY, "--approvers", str(plant.approvers), *there, *flags])


def test_applied_declaration_is_one_event_under_its_plant_that_opens_to_the_file(
    plant: Plant, broker: Cluster, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_topics(broker, prefix, ["declared"])
    assert apply(plant, broker, prefix) == 0
    commit_ = plant.git("rev-parse", "--short", "HEAD")
    said = capsys.readouterr().out
    assert said.startswith(f"north version 14 ({commit_}, signed by h.keller in commit {commit_[:7]}) is in force now: ")
    ((key, value, headers),) = held(broker, f"{prefix}hopwatch.declared.v1")
    event = json.loads(value)
    assert (key, headers["ce_type"], headers["ce_id"].decode()) == (b"north", b"hopwatch.declared.v1", event["event_id"])
    assert (event["version"], event["commit"], event["signer"], event["allowed"]) == (14, commit_, "h.keller", [])
    edition = in_force(clear(broker, prefix), "north")
    assert edition is not None
    assert architecture_of(edition, approvers=plant.approvers).declaration.model_dump() == plant.declaration().model_dump()
    assert apply(plant, broker, prefix) == 0, "applying it again is no mistake"
    assert "was in force already" in capsys.readouterr().out
    assert len(held(broker, f"{prefix}hopwatch.declared.v1")) == 1


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("unsigned", "not approved: no signature beside the file, and none on its commit"),
        ("dirty", "was changed since its commit"),
        ("older", "version 13, expected above 14"),
    ],
)
def test_what_speaks_against_it_is_said_publishes_nothing_and_can_be_overridden_by_name(
    plant: Plant, broker: Cluster, prefix: str, override: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_topics(broker, prefix, ["declared"])
    others: list[str] = []
    before = 0
    match override:
        case "unsigned":
            plant.commit(at_version(15))
        case "dirty":
            plant.path.write_text(at_version(15), "utf-8")
            others = ["--allow-unsigned"]  # Bytes in no commit are in no signed one.
        case "older":
            assert apply(plant, broker, prefix) == 0
            before = 1
            commit(plant, at_version(13))
    capsys.readouterr()
    assert apply(plant, broker, prefix, *others) == 2
    refusal = capsys.readouterr().err
    assert why in refusal and f"--allow-{override}" in refusal
    assert len(refusal.strip().splitlines()) == 1
    topic = f"{prefix}hopwatch.declared.v1"
    assert len(held(broker, topic)) == before
    assert apply(plant, broker, prefix, *others, f"--allow-{override}") == 0
    assert len(held(broker, topic)) == before + 1
    edition = in_force(clear(broker, prefix), "north")
    assert edition is not None and override in edition.allowed


def test_same_version_with_other_bytes_is_older(plant: Plant, broker: Cluster, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_topics(broker, prefix, ["declared"])
    assert apply(plant, broker, prefix) == 0
    commit(plant, TEXT + "# one line more\n")
    assert apply(plant, broker, prefix) == 2
    assert "version 14, expected above 14" in capsys.readouterr().err


def test_cluster_without_the_topic_is_said_in_one_line(
    plant: Plant, broker: Cluster, prefix: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hopwatch.apply.APPLY_S", 2.0)
    assert apply(plant, broker, prefix) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{prefix}hopwatch.declared.v1" in line
