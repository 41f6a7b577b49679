"""The page of every verdict: all sections are there, links lead somewhere, and what validates it exists; what is cheap is run."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from spoken_verdicts import said_in_code

from alerts.techniques import page, shipped
from benchmarks.detection.scenarios import SCENARIOS
from hopwatch.cli import main

ROOT = Path(__file__).parents[2]
SECTIONS = (
    "Goal", "Categorization", "Strategy abstract", "Technical context", "Blind spots and assumptions", "False positives", "Validation",
    "Priority", "Response",
)  # fmt: skip
VERDICTS = sorted(said_in_code())


def sections(verdict: str) -> dict[str, str]:
    text = (ROOT / page(verdict)).read_text(encoding="utf-8")
    title, *parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    assert title.strip() == f"# {verdict}"
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def commands(verdict: str) -> list[str]:
    """The lines of code under Validation."""
    return [line.strip() for line in re.findall(r"^ {4}\S.*$", f"    {sections(verdict)['Validation']}", flags=re.MULTILINE)]


@cache
def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)}


def exists(command: str) -> bool:
    """Whether the command is one of this repository, with files, names and options that there are."""
    first, *words = shlex.split(command)
    if first == "make":
        target, *settings = words
        names = [name for setting in settings for name in setting.removeprefix("ONLY=").split(",")]
        rules = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        return target in rules and all(name in SCENARIOS for name in names)
    if words[:2] == ["-m", "pytest"]:
        path, _, name = words[2].partition("::")
        return (ROOT / path).is_file() and name in functions(ROOT / path)
    return first == "hopwatch" and all((ROOT / word).is_file() for word in words if word.startswith("examples/"))


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_has_a_page_with_every_section_and_a_command_that_exists(verdict: str) -> None:
    said = sections(verdict)
    assert tuple(said) == SECTIONS
    assert all(said.values())
    assert commands(verdict)
    assert [command for command in commands(verdict) if not exists(command)] == []
    assert re.match(r"1\. \S", said["Response"])


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_page_names_the_techniques_that_an_alert_does_and_links_lead_somewhere(verdict: str) -> None:
    file = shipped()
    ids = re.findall(r"\[(T[\d.]+)\]", sections(verdict)["Categorization"])
    assert ids == list(file.by_verdict.get(verdict, ()))
    assert file.none.get(verdict, "") in sections(verdict)["Categorization"]
    for link in re.findall(r"\]\((?!https:)([^)#]+)", (ROOT / page(verdict)).read_text(encoding="utf-8")):
        assert (ROOT / page(verdict)).parent.joinpath(link).exists(), link


def test_there_is_no_page_that_no_verdict_has_and_the_table_links_each() -> None:
    assert sorted(path.stem for path in (ROOT / "docs/verdicts").glob("*.md")) == VERDICTS
    linked = re.findall(r"\(verdicts/([a-z-]+)\.md\)", (ROOT / "docs/verdicts.md").read_text(encoding="utf-8"))
    assert sorted(set(linked)) == VERDICTS


ASKED = [(verdict, command) for verdict in VERDICTS for command in commands(verdict) if " what-if " in command]
WATCHED = [(verdict, command) for verdict in VERDICTS for command in commands(verdict) if command.startswith("hopwatch watch ")]


@pytest.mark.parametrize(("verdict", "command"), ASKED)
def test_what_a_page_asks_of_the_declaration_is_answered_by_its_verdict(
    verdict: str, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(shlex.split(command)[1:]) == 1
    assert f"not approved, {verdict};" in capsys.readouterr().out


def test_the_recorded_day_raises_every_verdict_whose_page_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (command,) = {command for _, command in WATCHED}
    assert main(shlex.split(command)[1:]) == 1
    said = set(re.findall(r"^[A-Z]+ +([a-z-]+) ", capsys.readouterr().out, flags=re.MULTILINE))
    assert {verdict for verdict, _ in WATCHED} <= said
    assert len(WATCHED) == 7


@pytest.mark.parametrize("document", ["verdicts.md", "detectors.md", "formats.md"])
def test_links_to_pages_lead_somewhere(document: str) -> None:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https:)([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
