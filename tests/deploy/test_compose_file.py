"""docker-compose.yml and the Dockerfile without an engine: what they name is there, what they start is known, what they promise they say.

`make test-compose` runs them.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from examples.broker import ROOT
from hopwatch.bus.connection import VARIABLES as KAFKA_VARIABLES
from hopwatch.bus.rights import ROLES
from hopwatch.cli import _parse
from hopwatch.config import EVERY, PREFIX, alerts, kafka
from tests.compose.images import STANDINS, UNSTARTED, base_name
from tests.compose.play import images_started

COMPOSE: Mapping[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")  # Any: YAML values
SERVICES: Mapping[str, Any] = COMPOSE["services"]  # Any: as above
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("hopwatch:")}
SETTINGS = ROOT / "deploy" / "compose" / "hopwatch.toml"
GIVEN_BY_THE_SITE = ("./plant", "./secrets")
NAMED = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")


def settings_of(variables: Mapping[str, str]) -> None:
    """Every variable is one the programs know."""
    known = {PREFIX + name.upper() for model in EVERY for name in model.model_fields} | {"HOPWATCH_CONFIG"}
    assert {name for name in variables if name.startswith(PREFIX)} <= known | set(KAFKA_VARIABLES)


def mounts(service: Mapping[str, Any]) -> list[tuple[str, str, bool]]:  # Any: YAML values
    """Source, target, and whether it is read-only."""
    split = [volume.split(":") for volume in service.get("volumes", ())]
    return [(parts[0], parts[1], parts[2:] == ["ro"]) for parts in split]


@pytest.mark.parametrize("name", SERVICES)
def test_nobody_is_root_or_may_become_it_or_writes_to_an_image(name: str) -> None:
    service = SERVICES[name]
    user, _, group = service["user"].partition(":")
    assert int(user) and int(group)
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    # A file's right is worth nothing to who may get no right; the agent gets this one by its file.
    assert (service.get("cap_add", []), service["security_opt"]) == (
        (["NET_RAW"], []) if name == "agent" else ([], ["no-new-privileges:true"])
    )
    assert "privileged" not in service and "pid" not in service
    assert service.get("network_mode") == ("host" if name == "agent" else None)


@pytest.mark.parametrize("name", SERVICES)
def test_it_is_pinned_checked_and_reached_from_this_machine_only(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z/]+:v?\d+(\.\d+){1,2}", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    if name not in ("setup", "apply", "views"):
        # Ours say it in the Dockerfile.
        assert name in OURS or service["healthcheck"]["test"][0] == "CMD"
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_only_what_somebody_outside_needs_is_published() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    ports = {"kafka": 9092, "console": 8710, "grafana": 3000}
    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in ports.items()}


@pytest.mark.parametrize("name", SERVICES)
def test_every_file_it_mounts_is_there_and_no_program_can_change_it(name: str) -> None:
    for source, _, read_only in mounts(SERVICES[name]):
        if source.startswith("./"):
            assert read_only
            assert source.startswith(GIVEN_BY_THE_SITE) or (ROOT / source).exists(), source
        else:
            assert source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_its_command_line_is_one_of_ours_and_so_are_its_variables(name: str) -> None:
    service = OURS[name]
    settings_of(service["environment"])
    command = [NAMED.sub(r"\1", word) for word in service["command"]]
    if command:
        _parse(command)
    else:
        script = (ROOT / "deploy" / "compose" / "setup.sh").read_text()
        for line in re.findall(r"^\s*hopwatch (.*)$", script, re.MULTILINE):
            _parse(line.replace('"$program"', "agent").replace('"', "").split())
        (loop,) = re.findall(r"^for program in (.*); do$", script, re.MULTILINE)
        assert set(loop.split()) == set(ROLES)


def test_secrets_come_from_files_that_the_script_makes(tmp_path: Path) -> None:
    subprocess.run([ROOT / "deploy" / "compose" / "secrets.sh", tmp_path], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    assert set(made) == set(COMPOSE["secrets"]) and len(set(made.values())) == len(made)
    assert {secret for service in SERVICES.values() for secret in service.get("secrets", ())} <= set(made)
    assert all(len(text) >= 48 for text in made.values())
    subprocess.run([ROOT / "deploy" / "compose" / "secrets.sh", tmp_path], check=True)
    assert made == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}, "what is there stays"
    for service in SERVICES.values():
        variables = service.get("environment", {})
        said = [name for name in variables if re.search("PASSWORD|SECRET|TOKEN", name) and not name.endswith(("_FILE", "__FILE"))]
        assert not said, "a secret in a variable"


def test_the_settings_are_read_by_the_programs_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOPWATCH_KAFKA_SASL_USERNAME", "detect")
    monkeypatch.setenv("HOPWATCH_KAFKA_SASL_PASSWORD_FILE", "/run/secrets/kafka-detect")
    assert kafka({}, SETTINGS).bootstrap_servers == "kafka:9094"
    assert set(alerts(SETTINGS).destinations) == {"file", "alertmanager"}


def test_prometheus_asks_every_program_that_serves_figures() -> None:
    targets = YAML(typ="safe").load(ROOT / "deploy" / "compose" / "targets.yml")
    asked = {each["labels"]["job"]: each["targets"] for each in targets}
    assert asked == {f"hopwatch-{name}": [f"{name}:9464"] for name in ("detect", "store", "alerts", "agent")}
    # The same programs as where all runs on one machine: one configuration is for both.
    assert {each["labels"]["job"] for each in YAML(typ="safe").load(ROOT / "dashboards" / "prometheus" / "targets.yml")} == set(asked)


def test_configurations_are_what_prometheus_and_alertmanager_read(tmp_path: Path) -> None:
    for mounted in SERVICES["prometheus"]["volumes"]:
        source, _, target = mounted.removesuffix(":ro").partition(":")
        if target.startswith("/etc/prometheus/"):
            shutil.copy(ROOT / source, tmp_path / Path(target).name)
    for command in (
        ["promtool", "check", "config", tmp_path / "prometheus.yml"],
        ["amtool", "check-config", ROOT / "deploy" / "compose" / "alertmanager.yml"],
    ):
        said = subprocess.run(command, check=False, capture_output=True, text=True)
        assert said.returncode == 0, said.stdout + said.stderr
        assert "does not exist" not in said.stdout + said.stderr


def test_the_run_starts_every_service_but_one() -> None:
    assert images_started() == set(SERVICES) - {UNSTARTED}
    others = {service["image"] for name, service in SERVICES.items() if name not in OURS and name != UNSTARTED}
    assert others == {SERVICES[name]["image"] for name in STANDINS}


def test_the_image_is_made_of_two_stages_on_one_base_that_is_pinned() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.fullmatch(r"debian:\d+\.\d+-slim", base_name())
    assert re.findall(r"^FROM (.*)$", text, re.MULTILINE) == ["${BASE} AS build", "${BASE}"]
    assert "USER 10001:10001" in text and text.count("--require-hashes") == 2


def test_nothing_but_what_the_image_is_made_of_reaches_the_builder() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    kept = {line.removeprefix("!").rstrip("/") for line in lines if line.startswith("!")}
    assert all((ROOT / path).exists() for path in kept)
    assert not kept & {"secrets", "build", ".git", "tests", ".venv"}
    packages = re.search(r"^python-packages = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages and set(re.findall(r'"(\w+)"', packages[1])) <= kept


def test_files_that_people_read_name_it() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    for name in SERVICES:
        assert f"`{name}`" in page, f"docs/deploy.md says nothing of {name}"
