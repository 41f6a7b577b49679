"""A declaration as an event: the same bytes, the same approval, and nothing that was changed on the way."""

import base64
import subprocess
from datetime import date
from pathlib import Path

import pytest

from hopwatch.bus import EVENT_BYTES_MAX
from hopwatch.declared.edition import architecture_of, content_of, edition_of
from hopwatch.declared.problem import ArchitectureError
from hopwatch.declared.sign import sign, signature_path
from hopwatch.events import DeclaredEdition, dump, parse
from tests.declared.repository import TEXT, Plant, repository

DAY = date(2026, 4, 7)
TIME = "2026-04-07T10:00:00Z"


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return repository(tmp_path)


def applied(plant: Plant) -> DeclaredEdition:
    """The plant's file as it comes out of the topic."""
    edition, _ = edition_of(plant.path, TIME, at=DAY, approvers=plant.approvers)
    event = parse(dump(edition))
    assert isinstance(event, DeclaredEdition)
    return event


def approved_commit(plant: Plant) -> None:
    plant.commit(TEXT, "--author", "A. Ruiz <a.ruiz@example.com>", by="h.keller", key="keller")


def elsewhere(edition: DeclaredEdition, plant: Plant) -> tuple[bool, str]:
    """Whether a host that has the approver keys, and no repository, takes it as signed."""
    said = architecture_of(edition, at=DAY, approvers=plant.approvers).declaration
    return said.signed, said.approval


def test_edition_declares_what_the_file_does_and_names_where_it_is_from(plant: Plant) -> None:
    approved_commit(plant)
    edition = applied(plant)
    assert content_of(edition) == plant.path.read_bytes()
    assert (edition.plant, edition.version, edition.time, edition.file) == ("north", 14, TIME, "plant-north.yaml")
    assert (edition.signed, edition.signer) == (True, "h.keller")
    declaration = architecture_of(edition, at=DAY, approvers=plant.approvers).declaration
    assert declaration.model_dump() == plant.declaration().model_dump()
    assert declaration.commit == plant.git("rev-parse", "--short", "HEAD")


def test_detached_signature_is_checked_again_where_the_edition_is_read(plant: Plant) -> None:
    plant.commit(TEXT)
    key = (plant.keys / "keller").read_bytes()
    signature_path(plant.path).write_bytes(sign(plant.path.read_bytes(), key))
    edition = applied(plant)
    assert elsewhere(edition, plant) == (True, "signed by h.keller")
    assert elsewhere(edition.model_copy(update={"authors": ["H.Keller@example.com"]}), plant)[0] is False
    plant.approvers.write_text(f"b.other {(plant.keys / 'ruiz.pub').read_text()}")
    assert elsewhere(edition, plant)[0] is False, "another host trusts other people"


@pytest.mark.parametrize("folders", ["", "plants/north"])
def test_signed_commit_is_proven_without_its_repository(plant: Plant, folders: str) -> None:
    place = plant.repository / folders
    place.mkdir(parents=True, exist_ok=True)
    path = place / "plant-north.yaml"
    path.write_text(TEXT, "utf-8")
    plant.git("add", ".")
    plant.git("commit", "-q", "-m", "plant: change", "--author", "A. Ruiz <a.ruiz@example.com>", by="h.keller", key="keller")
    edition, _ = edition_of(path, TIME, at=DAY, approvers=plant.approvers)
    commit = plant.git("rev-parse", "HEAD")
    subprocess.run(["rm", "-rf", plant.repository], check=True)
    assert elsewhere(edition, plant) == (True, f"signed by h.keller in commit {commit[:7]}")


def test_signed_flag_alone_convinces_nobody(plant: Plant) -> None:
    plant.commit(TEXT)
    edition = applied(plant)
    assert edition.signed is False
    assert elsewhere(edition.model_copy(update={"signed": True, "signer": "h.keller"}), plant)[0] is False


def test_commit_that_is_not_of_these_bytes_proves_nothing(plant: Plant) -> None:
    approved_commit(plant)
    of_before = applied(plant)
    plant.commit(TEXT + "# one line more\n")
    forged = applied(plant).model_copy(update={"commits": of_before.commits})
    assert elsewhere(forged, plant)[0] is False


@pytest.mark.parametrize("part", ["content", "trees", "path", "id"])
def test_proof_with_one_part_changed_proves_nothing(plant: Plant, part: str) -> None:
    approved_commit(plant)
    edition = applied(plant)
    (proof,) = edition.commits
    other = base64.b64encode(base64.b64decode(proof.content) + b" ").decode()
    broken = {"content": other, "trees": [other], "path": "plant-south.yaml", "id": "0" * 40}[part]
    assert elsewhere(edition, plant)[0] is True
    assert elsewhere(edition.model_copy(update={"commits": [proof.model_copy(update={part: broken})]}), plant)[0] is False


def test_long_declaration_travels_packed_and_fits_an_event(plant: Plant) -> None:
    long = TEXT + "".join(f"# {number:060d}\n" for number in range(40_000))
    plant.commit(long, "--author", "A. Ruiz <a.ruiz@example.com>", by="h.keller", key="keller")
    edition = applied(plant)
    assert edition.content is None
    assert len(dump(edition)) < EVENT_BYTES_MAX
    assert content_of(edition).decode() == long
    assert elsewhere(edition, plant)[0] is True


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"content": TEXT + "#"}, "the digest differs"),
        ({"content": None}, "holds no declaration"),
        ({"content": None, "packed": "AAAA"}, "neither base64 nor zlib"),
        ({"version": 15}, "holds version 14 of north, expected 15 of north"),
        ({"plant": "south"}, "holds version 14 of north, expected 14 of south"),
    ],
)
def test_edition_that_is_not_what_it_says_is_refused(plant: Plant, change: dict[str, object], why: str) -> None:
    plant.commit(TEXT)
    with pytest.raises(ArchitectureError, match=why):
        architecture_of(applied(plant).model_copy(update=change), at=DAY)
