"""A container engine of this run's own: its socket, its data and its network are in one folder and one namespace, gone with it.

Docker is started twice. To make images it needs the machine's network and no bridge; to run them it has a network namespace of its own, in
which it may make bridges, rules and published ports as it likes and meets nothing of this machine.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOOLS = ("dockerd", "docker", "docker-compose", "debootstrap", "unshare", "nsenter", "ip")
READY_S = 60.0
STOP_S = 60.0
NETWORKS = "base=10.213.16.0/20,size=24"


class EngineError(Exception):
    """No engine can start here; one line says why."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running dockerd."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        """For `docker` and `docker-compose`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COMPOSE_", "HOPWATCH_"))}
        # Debian's engine has no BuildKit plugin, and its compose is older than the profile of one.
        said = {"DOCKER_HOST": f"unix://{self.folder}/socket", "DOCKER_CONFIG": str(self.folder / "client")}
        return kept | said | {"DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}

    def docker(self, *arguments: str | Path, input_: bytes | None = None) -> str:
        """What `docker` says.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        command = ["docker", *map(str, arguments)]
        return subprocess.run(command, env=self.environment, input=input_, check=True, capture_output=True).stdout.decode().strip()

    def inside(self, *command: str) -> str:
        """What a command of this machine says in the engine's network."""
        entered = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", *command]
        return subprocess.run(entered, check=True, capture_output=True).stdout.decode().strip()


@contextlib.contextmanager
def engine(folder: Path, *, building: bool) -> Iterator[Engine]:
    """A dockerd whose data are in ``folder``; they outlive it.

    Raises:
        EngineError: none can start.
    """
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise EngineError(f"not installed: {', '.join(missing)} (scripts/setup.sh compose)")
    if os.geteuid() != 0:
        raise EngineError("dockerd needs root")
    folder.mkdir(parents=True, exist_ok=True)
    for left in ("pid", "socket"):
        (folder / left).unlink(missing_ok=True)
    command = ["dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"]
    command += ["--host", f"unix://{folder}/socket", "--storage-driver", "overlay2", "--default-address-pool", NETWORKS]
    if building:
        command += ["--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]
    else:
        command = ["unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, start_new_session=True)
    made = Engine(folder, process)
    try:
        _ready(made)
        yield made
    finally:
        _end(made)


def _ready(one: Engine) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and one.process.poll() is None:
        with contextlib.suppress(subprocess.CalledProcessError):
            one.docker("info")
            return
        time.sleep(0.2)
    lines = (one.folder / "log").read_text(errors="replace").strip().splitlines()
    raise EngineError(f"dockerd does not start: {lines[-1] if lines else 'no word'}")


def _end(one: Engine) -> None:
    """End it and whatever of it is left; all of that is known by the folder in its command line."""
    one.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        one.process.wait(STOP_S)
    for pid in _of(one.folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    one.process.wait()
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed(mounts):
        if mount.startswith(f"{one.folder}/"):
            subprocess.run(["umount", "--lazy", mount], check=False)


def _of(folder: Path) -> list[int]:
    """Processes of the engine in this folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if f"{folder}/exec".encode() in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
    return found


@dataclass(frozen=True, slots=True)
class Project:
    """docker-compose.yml in a folder of its own, as somebody would have it who runs it."""

    engine: Engine
    folder: Path
    variables: dict[str, str]

    def compose(self, *arguments: str | Path, check: bool = True) -> str:
        """What `docker-compose` says; both its outputs, if it fails."""
        command = ["docker-compose", "--project-name", "hopwatch", *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, env=self.engine.environment | self.variables, check=False, capture_output=True)
        said = done.stdout.decode(errors="replace").strip()
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{said}\n{done.stderr.decode(errors='replace')[-4000:]}")
        return said

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "--all", "-q", service).splitlines()[0]

    def inspect(self, service: str) -> dict[str, Any]:  # Any: JSON values.
        """All that the engine knows of it."""
        (known,) = json.loads(self.engine.docker("inspect", self.container(service)))
        return dict(known)

    def health(self, service: str) -> str:
        """healthy, starting, unhealthy, or what state it is in."""
        state = self.inspect(service)["State"]
        if state["Running"] and "Health" in state:
            return str(state["Health"]["Status"])
        return str(state["Status"])

    def wait_healthy(self, services: Sequence[str], within_s: float) -> None:
        """Until every one of them is; what an unhealthy one said stands in the error."""
        deadline = time.monotonic() + within_s
        while True:
            states = {name: self.health(name) for name in services}
            if set(states.values()) == {"healthy"}:
                return
            if time.monotonic() > deadline:
                logs = {name: self.logs(name) for name, state in states.items() if state != "healthy"}
                raise AssertionError(
                    f"not healthy after {within_s:.0f} s: {states}\n" + "\n".join(f"{name}:\n{log}" for name, log in logs.items())
                )
            time.sleep(0.5)

    def logs(self, service: str, lines: int = 30) -> str:
        """The end of what it said."""
        return self.compose("logs", "--no-color", f"--tail={lines}", service, check=False)
