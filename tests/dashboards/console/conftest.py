"""A console over the recorded plant day."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from dashboards.console import users
from dashboards.console.app import application
from dashboards.console.serve import Options, made
from hopwatch.cli import main
from hopwatch.console import booked
from hopwatch.store.reader import reader
from tests.dashboards.console.browser import DECLARATION, EXAMPLES, NOW_NS, Browser, Clock, Make


@pytest.fixture(scope="session", autouse=True)
def quick() -> Iterator[None]:
    """Hashes that take no time; what the shipped ones cost is a test of its own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(users, "_HASHER", PasswordHasher(1, 8, 1))
        yield


@pytest.fixture(scope="session")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the recorded plant day."""
    store = tmp_path_factory.mktemp("day") / "store.db"
    assert (
        main(
            ["watch", "-d", str(DECLARATION), "-r", str(EXAMPLES / "plant-day.pcap.gz"), "--store", str(store), "--json", "--no-questions"]
        )
        == 1
    )
    return store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(day: Path, clock: Clock) -> Iterator[Make]:
    """Makes a console with other options than the usual, and a browser before it."""
    consoles = []

    def make(base: str = "http://127.0.0.1:8710", client: str = "127.0.0.1", store: Path = day, **options: Any) -> Browser:
        declarations = options.pop("declarations", [DECLARATION])
        if options.pop("alerts", False):
            options |= {"booked": partial(booked, str(store)), "takes_in": True}
        console, names = made(Options(declarations, partial(reader, str(store)), **options), clock, lambda: NOW_NS)
        consoles.append(console)
        return Browser(application(console, names), base, client, console)

    yield make
    for console in consoles:
        console.library.close()


@pytest.fixture
def own(day: Path, tmp_path: Path) -> Path:
    """A store of the day that a test may decide over."""
    for end in ("", ".key"):
        shutil.copy(f"{day}{end}", tmp_path / f"own.db{end}")
    return tmp_path / "own.db"
