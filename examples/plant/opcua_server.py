"""A machine's OPC UA server: telemetry that changes, recipes that must not leave, and history of both.

python -m examples.plant.opcua_server ADDRESS PORT USER=PASSWORD...
"""

import asyncio
import logging
import sys
from datetime import UTC, datetime, timedelta

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager

LINES = 2
TELEMETRY = ("Temperature", "Pressure", "Speed", "Torque", "Vibration", "Power")
RECIPES = ("Setpoint", "Curve", "Cycle")
HISTORY = 400
PERIOD_S = 0.1
NAMESPACE = "urn:plant.example:line"


class Passwords(UserManager):
    def __init__(self, users: dict[str, str]) -> None:
        self.users = users

    def get_user(self, iserver: object, username: object = None, password: object = None, certificate: object = None) -> User | None:
        known = isinstance(username, str) and self.users.get(username) == password
        return User(role=UserRole.Admin, name=str(username)) if known else None


def node_ids() -> list[str]:
    """Every data node: `ns=2;s=LineN/Telemetry/NAME` and `ns=2;s=LineN/Recipe/NAME`."""
    telemetry = [f"ns=2;s=Line{line}/Telemetry/{name}" for line in range(1, LINES + 1) for name in TELEMETRY]
    return telemetry + [f"ns=2;s=Line{line}/Recipe/{name}" for line in range(1, LINES + 1) for name in RECIPES]


async def serve(address: str, port: str, users: dict[str, str]) -> None:
    server = Server(user_manager=Passwords(users))
    await server.init()
    server.set_endpoint(f"opc.tcp://{address}:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    server.set_identity_tokens([ua.UserNameIdentityToken])
    await server.register_namespace(NAMESPACE)
    folder = await server.nodes.objects.add_folder(ua.NodeId.from_string("ns=2;s=Line"), ua.QualifiedName("Line", 2))
    variables = []
    for number, text in enumerate(node_ids()):
        variable = await folder.add_variable(ua.NodeId.from_string(text), ua.QualifiedName(text.split("s=")[1], 2), float(number))
        await variable.set_writable()
        variables.append(variable)
    for variable in variables:
        await server.historize_node_data_change(variable, period=timedelta(days=30), count=HISTORY + 10_000)
    start = datetime.now(UTC) - timedelta(minutes=HISTORY)
    for variable in variables:
        for step in range(HISTORY):
            moment = ua.DateTime.fromtimestamp((start + timedelta(minutes=step)).timestamp(), UTC)
            value = ua.DataValue(ua.Variant(float(step), ua.VariantType.Double), SourceTimestamp=moment)
            await server.iserver.history_manager.storage.save_node_value(variable.nodeid, value)
    async with server:
        tick = 0
        while True:
            await asyncio.sleep(PERIOD_S)
            tick += 1
            for variable in variables[: LINES * len(TELEMETRY)]:
                await variable.write_value(float(tick))


def main(address: str, port: str, *users: str) -> None:
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    asyncio.run(serve(address, port, dict(user.split("=", 1) for user in users)))


if __name__ == "__main__":
    main(*sys.argv[1:])
