"""Real daemons, each from a folder of its own under the plant's temporary folder, as an unprivileged user.

Nothing that exists on the machine is touched: PostgreSQL runs on a cluster made here by initdb, Mosquitto with a
configuration made here, and only processes started here are ended, by their process id. Each also ends with its parent
(PR_SET_PDEATHSIG), so that a killed run leaves nothing behind.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from examples.plant.network import Host

NOBODY = 65534
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
DEBIAN_DAEMONS = "/usr/sbin:/sbin:/usr/local/sbin"


class PlantError(Exception):
    """A server of the plant is missing or did not start; the message says which and why."""


@dataclass(slots=True)
class Processes:
    """What this run started, ended in reverse order."""

    folder: Path
    running: list[tuple[str, subprocess.Popen[bytes], signal.Signals]] = field(default_factory=list)

    def start(
        self, name: str, host: Host, argv: Sequence[str], *, stop: signal.Signals = signal.SIGTERM, unprivileged: bool = True
    ) -> subprocess.Popen[bytes]:
        # setpriv comes last: changing the user would clear the death signal it sets.
        command = host.command([*(as_nobody() if unprivileged else tied()), *argv])
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=environment(), start_new_session=True
            )
        self.running.append((name, process, stop))
        return process

    def wait_for(self, name: str, process: subprocess.Popen[bytes], host: Host, address: tuple[str, int]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise PlantError(f"{name} ended with {process.returncode} while starting: {self.last_line(name)}")
            if host.call(lambda: answers(address)):
                return
            time.sleep(0.05)
        raise PlantError(f"{name} does not answer on {address[0]}:{address[1]} after {START_TIMEOUT_S:.0f} s: {self.last_line(name)}")

    def last_line(self, name: str) -> str:
        lines = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "its log is empty"

    def stop_all(self) -> None:
        for _, process, stop in reversed(self.running):
            if process.poll() is None:
                process.send_signal(stop)
        for _, process, _ in reversed(self.running):
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()


@contextlib.contextmanager
def processes(folder: Path) -> Iterator[Processes]:
    held = Processes(folder)
    try:
        yield held
    finally:
        held.stop_all()


def missing_servers() -> list[str]:
    """The programs the plant needs that this machine does not have."""
    found = {"initdb": postgresql_program("initdb"), "mosquitto": program("mosquitto"), "mosquitto_passwd": program("mosquitto_passwd")}
    return [name for name, path in found.items() if path is None]


# -- PostgreSQL ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """A running server; its administrator comes through the folder's Unix socket, which no tap sees."""

    folder: Path
    address: str
    port: int
    password: str

    def administrator(self, database: str = "mes") -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host=str(self.folder), port=self.port, dbname=database, user="plant_admin", password=self.password, autocommit=True
        )


def postgresql(
    held: Processes,
    host: Host,
    port: int,
    password: str,
    *,
    certificate: tuple[Path, Path] | None = None,
    more: Mapping[str, str] | None = None,
) -> PostgreSQL:
    initdb, postgres = postgresql_program("initdb"), postgresql_program("postgres")
    if initdb is None or postgres is None:
        raise PlantError("postgresql is not installed")
    folder = private_folder(held.folder / "postgresql")
    secret = private_file(folder / "superuser", password)
    data = folder / "data"
    # -N and fsync=off: nobody needs this cluster after the run.
    run([initdb, "-D", data, "-U", "plant_admin", "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "-N"])
    options = {
        "listen_addresses": host.address,
        "port": str(port),
        "unix_socket_directories": str(folder),
        "fsync": "off",
        "shared_buffers": "16MB",
        "max_connections": "60",
        "autovacuum": "off",
        "jit": "off",
    } | dict(more or {})
    if certificate is not None:
        # In its file, so that it can be switched off while it runs: the command line would hold.
        with (data / "postgresql.conf").open("a", encoding="ascii") as file:
            file.write(f"ssl = on\nssl_cert_file = '{certificate[0]}'\nssl_key_file = '{certificate[1]}'\n")
    with (data / "pg_hba.conf").open("a", encoding="ascii") as rules:
        rules.write("host all all 0.0.0.0/0 scram-sha-256\n")
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
    process = held.start("postgresql", host, [str(postgres), "-D", str(data), *settings], stop=signal.SIGINT)
    held.wait_for("postgresql", process, host, (host.address, port))
    server = PostgreSQL(folder, host.address, port, password)
    # It listens before it has recovered, and refuses logins until then ("the database system is starting up").
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.administrator("postgres").close()
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise PlantError(f"postgresql takes no login: {str(error).strip().splitlines()[-1]}") from error
            time.sleep(0.05)
        else:
            return server


# -- Mosquitto -----------------------------------------------------------------------------------------------------


def mosquitto(held: Processes, host: Host, port: int, users: Mapping[str, str], *, more: Sequence[str] = ()) -> Path:
    """Starts a broker; ``more`` are further lines of its configuration, which name whoever else lets users in. The folder is its own."""
    daemon, passwords = program("mosquitto"), program("mosquitto_passwd")
    if daemon is None or passwords is None:
        raise PlantError("mosquitto is not installed")
    folder = private_folder(held.folder / "mosquitto")
    secret = private_file(folder / "users", "".join(f"{user}:{password}\n" for user, password in users.items()))
    if users:
        run([passwords, "-U", secret])
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} {host.address}\nallow_anonymous false\npersistence false\n{f'password_file {secret}' if users else ''}\n"
        "max_queued_messages 20000\nmax_inflight_messages 100\nlog_type error\nlog_type warning\n" + "".join(f"{line}\n" for line in more),
        encoding="ascii",
    )
    process = held.start("mosquitto", host, [daemon, "-c", str(configuration)])
    held.wait_for("mosquitto", process, host, (host.address, port))
    return folder


# -- servers written here (OPC UA, the off-site targets, DNS) -------------------------------------------------------


def python_server(held: Processes, name: str, host: Host, module: str, arguments: Sequence[str], address: tuple[str, int] | None) -> None:
    """Run ``examples.plant.MODULE`` on ``host``; ``address`` is where it answers TCP, None for a server that has none."""
    process = held.start(name, host, [sys.executable, "-m", f"examples.plant.{module}", *arguments], unprivileged=nobody_may_run_python())
    if address is not None:
        held.wait_for(name, process, host, address)


def self_signed(folder: Path, name: str, *, address: bool = False) -> tuple[Path, Path]:
    """A certificate of this run for ``name``, and its key, readable by the servers' user only."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(
        [
            *request,
            "-subj",
            f"/CN={name}",
            "-addext",
            f"subjectAltName={'IP' if address else 'DNS'}:{name}",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    give_away(certificate)
    give_away(key)
    key.chmod(0o600)
    return certificate, key


# -- small things --------------------------------------------------------------------------------------------------


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{DEBIAN_DAEMONS}")


def postgresql_program(name: str) -> str | None:
    versions = [path for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}") if path.parts[4].isdigit()]
    return str(max(versions, key=lambda path: int(path.parts[4]))) if versions else shutil.which(name)


def as_nobody() -> list[str]:
    """The prefix that gives up root, if this is root, and ties the process to this one's life either way."""
    setpriv = program("setpriv")
    if setpriv is None:
        raise PlantError("setpriv (util-linux) is not installed")
    user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    return [setpriv, *user, "--pdeathsig", "KILL"]


def tied() -> list[str]:
    """The prefix that only ties the process to this one's life."""
    return [as_nobody()[0], "--pdeathsig", "KILL"]


def nobody_may_run_python() -> bool:
    """Whether the unprivileged user can reach this interpreter and this checkout (neither is in a closed home)."""
    places = (Path(sys.executable).resolve(), Path(sys.prefix).resolve(), Path(__file__).resolve())
    return all(part.stat().st_mode & 0o001 for place in places for part in place.parents)


def environment() -> dict[str, str]:
    keep = ("PATH", "LANG", "TMPDIR", "VIRTUAL_ENV")
    values = {name: os.environ[name] for name in keep if name in os.environ}
    return values | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}


def run(argv: Sequence[object]) -> None:
    finished = subprocess.run([*as_nobody(), *map(str, argv)], capture_output=True, text=True, env=environment(), check=False, cwd="/")
    if finished.returncode != 0:
        lines = (finished.stderr or finished.stdout).strip().splitlines()
        raise PlantError(f"{argv[0]} ended with {finished.returncode}: {lines[-1] if lines else 'no message'}")


def private_folder(path: Path) -> Path:
    path.mkdir(mode=0o700)
    give_away(path)
    return path


def private_file(path: Path, content: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")
    give_away(path)
    return path


def give_away(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=0.5).close()
    except OSError:
        return False
    return True
