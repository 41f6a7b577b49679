"""A real MariaDB with TLS and all of its logs, for the tests of what reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql

from examples.plant import servers
from examples.plant.network import Host

PASSWORD = "only-for-this-test"
ACCOUNTS = ("svc_mw", "svc_tls", "svc_clear", "svc_load")


@dataclass(frozen=True, slots=True)
class MariaDB:
    """A running server and where it writes."""

    host: Host
    port: int
    folder: Path
    certificate: Path

    @property
    def address(self) -> str:
        return self.host.address

    @property
    def logs(self) -> str:
        """Its audit file and its slow log, whatever rotation calls them."""
        return f"{self.folder}/logs/audit.log*,{self.folder}/logs/slow*.log"

    def administrator(self) -> Any:
        """Through the socket, which no tap and no port sees."""
        return pymysql.connect(unix_socket=str(self.folder / "socket"), user="root", autocommit=True)

    def connect(self, user: str, *, tls: bool = True, password: str = PASSWORD, **options: Any) -> Any:
        """A client's connection; called on the client's host."""
        ssl = {"ssl": {"ca": str(self.certificate), "check_hostname": False}} if tls else {"ssl_disabled": True}
        return pymysql.connect(
            host=self.address, port=self.port, user=user, password=password, database="mes", autocommit=True, **ssl, **options
        )


def started(held: servers.Processes, host: Host, port: int, folder: Path) -> MariaDB:
    install, daemon = servers.program("mariadb-install-db"), servers.program("mariadbd")
    if install is None or daemon is None:
        raise servers.PlantError("mariadb-server is not installed")
    certificate, key = servers.self_signed(folder, "mes-db")
    own = servers.private_folder(folder / "mariadb")
    logs = servers.private_folder(own / "logs")
    data = own / "data"
    servers.run([install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"])
    grants = "".join(f"create user {name} identified by '{PASSWORD}';\ngrant all on mes.lots to {name};\n" for name in ACCOUNTS)
    begin = servers.private_file(
        own / "begin.sql",
        "create database mes;\nuse mes;\ncreate table lots (id int primary key, part varchar(40));\n"
        "insert into lots select seq, concat('p', seq) from seq_1_to_300;\ncreate table wages (id int);\n"
        f"{grants}create user svc_admin identified by '{PASSWORD}';\ngrant all on *.* to svc_admin with grant option;\n"
        # All that the collector needs of the server.
        f"create user hopwatch identified by '{PASSWORD}' require ssl;\ngrant process on *.* to hopwatch;\n",
    )
    options = [
        "--no-defaults", f"--datadir={data}", f"--socket={own / 'socket'}", f"--bind-address={host.address}", f"--port={port}",
        f"--init-file={begin}", "--skip-name-resolve", f"--ssl-cert={certificate}", f"--ssl-key={key}", "--local-infile=1",
        "--plugin-load-add=server_audit", "--server-audit-logging=ON", f"--server-audit-file-path={logs / 'audit.log'}",
        "--slow-query-log", f"--slow-query-log-file={logs / 'slow.log'}", "--long-query-time=0", "--innodb-buffer-pool-size=32M",
        "--innodb-flush-log-at-trx-commit=0",
    ]  # fmt: skip
    process = held.start("mariadb", host, [daemon, *options])
    held.wait_for("mariadb", process, host, (host.address, port))
    return MariaDB(host, port, own, certificate)


def answers(server: MariaDB) -> bool:
    """It listens before it has read its first file."""
    try:
        server.connect("svc_mw").close()
    except pymysql.err.OperationalError:
        return False
    return True
