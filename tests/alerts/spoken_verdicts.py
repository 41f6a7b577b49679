"""The verdicts that the product can say, read from the code of the detectors."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from detectors.judgement import TABLE

DETECTORS = Path(__file__).parents[2] / "detectors"
_WORD = re.compile(r"[a-z]+(-[a-z]+)*")
# Calls that say a finding; the verdict is the first text among their arguments.
_SAYING = {"say", "notice", "_said", "_say", "_changed", "Finding"}


def said_in_code() -> set[str]:
    """The table of verdicts, and the first word of every call that says a finding."""
    found: set[str] = set(TABLE)
    for file in sorted(DETECTORS.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        named = {
            target.id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _name(node.func) in _SAYING:
                values = [*node.args, *(one.value for one in node.keywords if one.arg == "verdict")]
                told = (set(_texts(named.get(one.id, one) if isinstance(one, ast.Name) else one)) for one in values)
                found |= next((texts for texts in told if texts), set())
    return found


def _name(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _texts(value: ast.expr) -> Iterator[str]:
    """The words that a value may be; a condition chooses between some."""
    if isinstance(value, ast.IfExp):
        yield from _texts(value.body)
        yield from _texts(value.orelse)
    elif isinstance(value, ast.Constant) and isinstance(value.value, str) and _WORD.fullmatch(value.value):
        yield value.value
