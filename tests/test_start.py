"""What a command loads before it does anything: a person who asks for help does not wait for a web server and a cluster's client."""

import subprocess
import sys

import pytest

HEAVY = ("pydantic", "pydantic_settings", "starlette", "confluent_kafka", "river", "scapy", "psycopg", "httpx", "rich", "hopwatch_wire")
"""Packages that take longer to load than a help text takes to print."""

ROOMS = ("agent", "alerts", "collectors", "dashboards", "detectors", "hopwatch.bus", "hopwatch.config", "hopwatch.declared")


def loaded(*arguments: str) -> set[str]:
    """The modules there are once the command has ended, in a process of its own."""
    program = (
        "import sys; from hopwatch.cli import main; status = main(sys.argv[1:]); print(*sys.modules, file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.strip()
    return set(done.stderr.split())


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_load_no_room(flag: str) -> None:
    assert not loaded(flag) & {*HEAVY, *ROOMS}


@pytest.mark.parametrize(
    ("command", "spared"),
    [
        ("inspect", {"pydantic_settings", "confluent_kafka", "psycopg", "starlette", "httpx", "detectors", "alerts"}),
        ("flows", {"confluent_kafka", "psycopg", "starlette", "httpx", "prometheus_client", "rich", "detectors", "alerts.settings"}),
        ("declared", {"confluent_kafka", "psycopg", "starlette", "httpx", "rich", "detectors", "alerts", "pydantic_settings"}),
        ("watch", {"confluent_kafka", "starlette", "httpx", "alerts.settings"}),
        ("agent", {"psycopg", "starlette", "httpx", "rich", "detectors", "alerts.settings"}),
        ("console", {"confluent_kafka", "starlette", "httpx", "detectors"}),
    ],
)
def test_a_command_loads_no_room_of_another(command: str, spared: set[str]) -> None:
    assert not loaded(command, "--help") & spared
