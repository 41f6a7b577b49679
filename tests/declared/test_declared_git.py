"""What git knows of a declaration reaches the findings that quote it, and what it does not know is said."""

import subprocess
from datetime import date
from pathlib import Path

import pytest

from hopwatch.declared.load import load
from hopwatch.declared.model import Architecture
from hopwatch.declared.sign import read_approvers, signed_commits, verify
from tests.declared.repository import TEXT, Plant, repository


def git(directory: Path, *arguments: str) -> None:
    who = ["-c", "user.name=A. Ruiz", "-c", "user.email=a.ruiz@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", directory, *who, *arguments], check=True, capture_output=True)


def read(path: Path) -> tuple[Architecture, list[str]]:
    architecture = load(path, at=date(2026, 4, 7))
    return architecture, [problem.message for problem in architecture.problems if problem.rule == "git"]


def test_commit_is_quoted_and_a_later_change_makes_it_dirty(tmp_path: Path) -> None:
    path = tmp_path / "plant-north.yaml"
    path.write_text(TEXT, "utf-8")
    git(tmp_path, "init", "-q")
    architecture, said = read(path)
    assert (architecture.declaration.commit, said) == (None, ["is not in git, so no change to it can be traced"])
    git(tmp_path, "add", path.name)
    git(tmp_path, "commit", "-q", "-m", "plant: declare north")
    architecture, said = read(path)
    commit = architecture.declaration.commit
    assert commit is not None and len(commit) >= 7 and said == []
    path.write_text(TEXT + "# changed\n", "utf-8")
    architecture, said = read(path)
    assert (architecture.declaration.commit, said) == (f"{commit}-dirty", ["was changed since its last commit"])


def test_file_that_git_ignores_is_said_to_be_untraceable(tmp_path: Path) -> None:
    path = tmp_path / "plant-north.yaml"
    path.write_text(TEXT, "utf-8")
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text(path.name)
    assert read(path)[1] == ["is ignored by git (.gitignore), so no change to it can be traced"]


def test_file_outside_git_has_no_commit_and_no_warning(tmp_path: Path) -> None:
    path = tmp_path / "plant-north.yaml"
    path.write_text(TEXT, "utf-8")
    architecture, said = read(path)
    assert (architecture.declaration.commit, said) == (None, [])


# Signed commits: the approver's key signs, the author is someone else.


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return repository(tmp_path)


def test_commit_signed_by_an_approver_who_is_not_its_author_approves_the_file(plant: Plant) -> None:
    plant.commit(TEXT, "--author", "A. Ruiz <a.ruiz@example.com>", by="h.keller", key="keller")
    declaration = plant.declaration()
    assert (declaration.signed, plant.git_verifies()) == (True, True)
    assert declaration.approval == f"signed by h.keller in commit {plant.git('rev-parse', 'HEAD')[:7]}"


def test_commit_signed_by_its_author_approves_nothing(plant: Plant) -> None:
    plant.commit(TEXT, by="h.keller", key="keller")
    declaration = plant.declaration()
    assert (declaration.signed, plant.git_verifies()) == (False, True)
    assert declaration.approval == "signed by h.keller, who wrote it; author and approver must differ"


def test_commit_signed_by_a_key_of_no_approver_approves_nothing(plant: Plant) -> None:
    plant.commit(TEXT, "--author", "B <b@example.com>", key="ruiz")
    declaration = plant.declaration()
    assert (declaration.signed, plant.git_verifies()) == (False, False)
    assert "is of no approver's key" in declaration.approval


def test_commit_without_a_signature_approves_nothing(plant: Plant) -> None:
    plant.commit(TEXT)
    assert plant.declaration().approval == "no signature beside the file, and none on its commit"


def test_file_that_is_not_the_one_of_the_signed_commit_is_unsigned(plant: Plant) -> None:
    plant.commit(TEXT, "--author", "A. Ruiz <a.ruiz@example.com>", by="h.keller", key="keller")
    plant.path.write_text(TEXT + "# one line more\n", "utf-8")
    assert not plant.declaration().signed
    plant.commit(TEXT + "# one line more\n")
    assert not plant.declaration().signed


def test_commit_whose_text_was_changed_after_it_was_signed_is_unsigned(plant: Plant) -> None:
    plant.commit(TEXT, "--author", "A. Ruiz <a.ruiz@example.com>", by="h.keller", key="keller")
    signed = plant.git("cat-file", "commit", "HEAD")
    forged = plant.repository / "forged"
    forged.write_text(signed.replace("plant: change", "plant: chance") + "\n")
    made = plant.git("hash-object", "-t", "commit", "-w", "--literally", str(forged))
    plant.git("reset", "-q", "--hard", made)
    assert (plant.declaration().signed, plant.git_verifies()) == (False, False)


def test_merge_signed_by_an_approver_approves_what_others_wrote_in_it_and_not_his_own(plant: Plant) -> None:
    plant.commit(TEXT.replace("version: 14", "version: 13"))
    for author, signed in (("a.ruiz", True), ("h.keller", False)):
        plant.git("switch", "-q", "-c", f"change-{author}")
        plant.commit(TEXT + f"# {author}\n", by=author)
        plant.git("switch", "-q", "main")
        plant.git("merge", "-q", "--no-ff", "-m", "plant: take it", f"change-{author}", by="h.keller", key="keller")
        assert (plant.declaration().signed, plant.git_verifies()) == (signed, True), author


def test_signature_made_for_a_file_is_none_for_a_commit_and_the_other_way_round(plant: Plant) -> None:
    plant.commit(TEXT, "--author", "A. Ruiz <a.ruiz@example.com>", by="h.keller", key="keller")
    (commit,) = signed_commits(plant.path, TEXT.encode())
    approvers = read_approvers(plant.approvers.read_text())
    assert verify(commit.payload, commit.signature, approvers, [], commit=commit.id).signed
    assert "another namespace" in verify(commit.payload, commit.signature, approvers, []).why
