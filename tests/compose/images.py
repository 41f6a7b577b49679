"""The images of docker-compose.yml without a registry: a base from debootstrap, ours from the Dockerfile, and stand-ins for the others."""

import re
import shutil
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from examples.broker import JARS, ROOT
from tests.compose.engine import Engine

HERE = Path(__file__).parent
BASE = ROOT / "build" / "compose" / "base.tar"
"""What debootstrap made, kept for the next run; `make clean` takes it away."""

MIRROR = "http://deb.debian.org/debian"
STANDINS = ("kafka", "postgres", "prometheus", "alertmanager")
UNSTARTED = "grafana"
"""The one image nothing of Debian's stands in for; its data sources and dashboards are tested without it."""

SOURCES = """\
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

BASE_STEPS = """\
FROM debootstrapped
COPY debian.sources /etc/apt/sources.list.d/debian.sources
COPY authorities /usr/local/share/ca-certificates
COPY policy-rc.d /usr/sbin/policy-rc.d
RUN rm -f /etc/apt/sources.list && update-ca-certificates
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt
"""


def services() -> dict[str, dict[str, str]]:
    """The services of docker-compose.yml."""
    return dict(YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"])


def base_name() -> str:
    """What the Dockerfile is built on."""
    (name,) = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return str(name)


def make(engine: Engine, folder: Path) -> None:
    """Every image, under the name and tag that docker-compose.yml has for it."""
    _base(engine, folder / "base")
    standins = shutil.copytree(HERE / "standins", folder / "standins", dirs_exist_ok=True)
    jars = standins / "kafka" / "libs"
    shutil.rmtree(jars, ignore_errors=True)
    jars.mkdir(parents=True)
    for jar in JARS.glob("*.jar"):
        shutil.copyfile(jar, jars / jar.name)
    shutil.copyfile(ROOT / "scripts" / "kafka" / "log4j2.properties", standins / "kafka" / "log4j2.properties")
    wanted = services()
    for name in STANDINS:
        build(engine, standins, wanted[name]["image"], "--build-arg", f"BASE={base_name()}", "--target", name)
    build(engine, ROOT, wanted["detect"]["image"])


def build(engine: Engine, context: Path, tag: str, *more: str) -> None:
    """One image; the network is the machine's, where packages come from."""
    command = ["docker", "build", "--network", "host", "--tag", tag, *more, str(context)]
    done = subprocess.run(command, env=engine.environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"{tag} is not built:\n{done.stdout.decode(errors='replace')[-4000:]}"


def _base(engine: Engine, folder: Path) -> None:
    """Debian as the image of that name has it, and the authorities this machine trusts: packages may come through a proxy."""
    if not BASE.exists():
        BASE.parent.mkdir(parents=True, exist_ok=True)
        root, made = folder / "root", BASE.with_suffix(".new")
        subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", root, MIRROR], check=True, capture_output=True
        )
        subprocess.run(["tar", "-C", root, "--exclude=./var/cache/apt/archives/*.deb", "-cf", made, "."], check=True)
        made.rename(BASE)
        shutil.rmtree(root)
    engine.docker("import", BASE, "debootstrapped")
    authorities = folder / "authorities"
    authorities.mkdir(parents=True, exist_ok=True)
    bundle = Path("/etc/ssl/certs/ca-certificates.crt").read_text()
    for number, text in enumerate(re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", bundle, re.DOTALL)):
        (authorities / f"machine-{number:03}.crt").write_text(text + "\n")
    (folder / "debian.sources").write_text(SOURCES)
    (folder / "policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (folder / "policy-rc.d").chmod(0o755)
    (folder / "Dockerfile").write_text(BASE_STEPS)
    build(engine, folder, base_name())
