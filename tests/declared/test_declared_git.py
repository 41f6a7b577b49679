"""What git knows of a declaration reaches the findings that quote it, and what it does not know is said."""

import subprocess
from datetime import date
from pathlib import Path

from hopwatch.declared.load import load
from hopwatch.declared.model import Architecture

TEXT = (Path(__file__).parents[2] / "examples" / "plant-north.yaml").read_text("utf-8")


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
