"""An OPC UA server with many fast variables. Run: ``python opcua_server.py ADDRESS PORT VARIABLES PERIOD_S USER PASSWORD``."""

import asyncio
import logging
import sys

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager


class _One(UserManager):
    def __init__(self, user: str, password: str) -> None:
        self.known = (user, password)

    def get_user(self, iserver: object, username: object = None, password: object = None, certificate: object = None) -> User | None:
        return User(role=UserRole.Admin, name=str(username)) if (username, password) == self.known else None


async def _serve(address: str, port: str, count: int, period_s: float, user: str, password: str) -> None:
    server = Server(user_manager=_One(user, password))
    await server.init()
    server.set_endpoint(f"opc.tcp://{address}:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    server.set_identity_tokens([ua.UserNameIdentityToken])
    await server.register_namespace("urn:plant.example:line")
    folder = await server.nodes.objects.add_folder(ua.NodeId.from_string("ns=2;s=Line"), ua.QualifiedName("Line", 2))
    nodes = [ua.NodeId.from_string(f"ns=2;s=Line/Tag{number}") for number in range(count)]
    variables = [await folder.add_variable(node, ua.QualifiedName(str(node.Identifier), 2), 0.0) for node in nodes]
    async with server:
        tick = 0.0
        while True:
            tick += 1.0
            for variable in variables:
                await server.write_attribute_value(variable.nodeid, ua.DataValue(ua.Variant(tick, ua.VariantType.Double)))
            await asyncio.sleep(period_s)


if __name__ == "__main__":
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    _address, _port, _count, _period_s, _user, _password = sys.argv[1:]
    asyncio.run(_serve(_address, _port, int(_count), float(_period_s), _user, _password))
