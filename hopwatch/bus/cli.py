"""``hopwatch topics``: create, check, grant.

Exit codes: 0 the cluster has what is needed; 1 ``check`` found a difference; 2 the cluster cannot be reached or refuses.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from hopwatch.bus.admin import PARTITIONS_MAX, Cluster
from hopwatch.bus.connection import BrokerError, Connection, secret_in
from hopwatch.bus.rights import ROLES, rights

OK, FOUND = 0, 1


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands and their flags to the parser of ``topics``."""
    commands = parser.add_subparsers(dest="topics_command", metavar="COMMAND", required=True)
    for name, about in (("create", "create the topics that are not there"), ("check", "name every setting that is not as it should be")):
        command = commands.add_parser(name, help=about, allow_abbrev=False)
        _common(command)
        command.add_argument(
            "--partitions", type=_number, metavar="N", help="of the topics that detectors share; never to be changed later (default 12)"
        )
        command.add_argument("--replication", type=_number, metavar="N", help="copies of each event (default 3, or one a broker if fewer)")
        command.add_argument("--json", action="store_true", help="one JSON object a line")
    grant = commands.add_parser("grant", help="give an account the rights one program needs, and no other", allow_abbrev=False)
    _common(grant)
    grant.add_argument("role", choices=ROLES, metavar="PROGRAM", help=f"what the account is for: {', '.join(ROLES)}")
    grant.add_argument("account", metavar="ACCOUNT", help="the account, as brokers know it")
    grant.add_argument("--group", metavar="NAME", help="the consumer group, if the program joins another than its own")
    grant.add_argument("--password-file", type=Path, metavar="FILE", help="make the account with this password, or give it this one")


def _common(command: argparse.ArgumentParser) -> None:
    servers = ("--brokers", "--bootstrap-servers")
    command.add_argument(*servers, dest="bootstrap_servers", metavar="HOST:PORT,…", help="some brokers of the cluster")
    command.add_argument("--topic-prefix", metavar="TEXT", help="stands before every topic's name, as north.")
    command.add_argument("--config", type=Path, metavar="FILE", help="configuration (default ./hopwatch.toml, if it is there)")


def run(arguments: argparse.Namespace, connection: Connection) -> int:
    """Run the command that was parsed; returns the exit code.

    Raises:
        BrokerError: the cluster cannot be reached or refuses.
    """
    cluster = Cluster(connection)
    if arguments.topics_command == "grant":
        return _grant(cluster, arguments, connection.topic_prefix)
    wanted = cluster.wanted(partitions=arguments.partitions, replication=arguments.replication)
    if arguments.topics_command == "create":
        created = cluster.create(wanted)
        for one in wanted:
            state = "created" if one.name in created else "exists"
            said = {"topic": one.name, "state": state, "partitions": one.partitions, "replication": one.replication}
            print(json.dumps(said) if arguments.json else f"{state:8} {one.name}  {one.topic.about}")
        return OK
    differences = cluster.differences(wanted)
    for difference in differences:
        if arguments.json:
            print(json.dumps(asdict(difference)))
        elif difference.actual is None:
            print(f"{difference.topic}: not there (hopwatch topics create)")
        else:
            print(f"{difference.topic}: {difference.setting} is {difference.actual}, expected {difference.wanted}")
    if not differences and not arguments.json:
        print(f"{len(wanted)} topics as they should be")
    return FOUND if differences else OK


def _grant(cluster: Cluster, arguments: argparse.Namespace, prefix: str) -> int:
    if arguments.password_file is not None:
        try:
            password = secret_in(arguments.password_file)
        except ValueError as error:
            raise BrokerError(f"--password-file {error}") from None
        cluster.set_password(arguments.account, password)
    given = rights(arguments.role, prefix, arguments.group)
    cluster.grant(arguments.account, given)
    print(f"{arguments.account} may do what {arguments.role} needs: {len(given)} rights")
    return OK


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= PARTITIONS_MAX):
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 1 to {PARTITIONS_MAX}")
    return int(text)
