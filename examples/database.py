"""A PostgreSQL server for tests and benchmarks, in a folder of its own, that can be killed and started again.

with database(folder) as server:
    uri = server.uri("events")     # a database of that name, made if it is not there
    server.kill()
    server.start()
"""

import contextlib
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from examples.plant.servers import PlantError, as_nobody, environment, postgresql_program, private_file, private_folder, run

ADDRESS = "127.0.0.1"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
USER = "hopwatch"
SETTINGS = {"listen_addresses": ADDRESS, "shared_buffers": "128MB", "max_wal_size": "2GB", "max_connections": "60", "jit": "off"}


@dataclass(slots=True)
class Database:
    """A server that this process started."""

    folder: Path
    port: int
    password: str = field(repr=False)
    settings: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def uri(self, name: str) -> str:
        """A connection URI of the database ``name``, which is there from now on."""
        with psycopg.connect(self._uri("postgres"), autocommit=True) as db:
            if db.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self._uri(name)

    def drop(self, name: str) -> None:
        """The database is gone, whoever uses it."""
        with psycopg.connect(self._uri("postgres"), autocommit=True) as db:
            db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _uri(self, name: str) -> str:
        return f"postgresql://{USER}:{self.password}@{ADDRESS}:{self.port}/{name}"

    def start(self) -> None:
        """Start the server on its data and wait until it takes logins."""
        assert self.process is None or self.process.poll() is not None, "the server runs"
        self._launch()
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self._uri("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise PlantError(f"postgresql takes no login: {str(error).strip().splitlines()[-1]}") from error
                time.sleep(0.05)
                if self.process is not None and self.process.poll() is not None:
                    # A child of one that was killed still holds the memory they share: it starts when that is gone.
                    self._launch()
            else:
                return

    def _launch(self) -> None:
        settings = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        command = [*as_nobody(), str(postgresql_program("postgres")), "-D", str(self.folder / "data"), *settings]
        with (self.folder / "postgresql.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), cwd=self.folder, start_new_session=True
            )

    def kill(self) -> None:
        """End it without a word: its children see their parent gone and end too, and it recovers when it starts."""
        self._end(signal.SIGKILL)
        # Until the last child lets go of the memory they share, no other server may start on this data.
        time.sleep(0.2)

    def stop(self) -> None:
        """Ask it to end, clients or no clients (fast shutdown)."""
        self._end(signal.SIGINT)

    def _end(self, which: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(which)
            self.process.wait(STOP_TIMEOUT_S)


@contextlib.contextmanager
def database(folder: Path, **settings: str) -> Iterator[Database]:
    """A server in ``folder`` (not there yet), serving; ended with the context. It syncs to the disk like a plant's own."""
    initdb = postgresql_program("initdb")
    if initdb is None or postgresql_program("postgres") is None:
        raise PlantError("postgresql is not installed")
    private_folder(folder)
    password = secrets.token_hex(16)
    secret = private_file(folder / "superuser", password)
    run([initdb, "-D", folder / "data", "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C", "-N"])
    with socket.create_server((ADDRESS, 0)) as free:
        port = free.getsockname()[1]
    server = Database(folder, port, password, SETTINGS | {"port": str(port), "unix_socket_directories": str(folder)} | settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()
