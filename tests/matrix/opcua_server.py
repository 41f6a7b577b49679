"""The asyncua server of the table: values, methods, history, two kinds of users and an encrypted endpoint.

python -m tests.matrix.opcua_server ADDRESS PORT FOLDER
"""

import asyncio
import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from asyncua import ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from cryptography.x509.oid import ExtendedKeyUsageOID

NODES = 40
HISTORY = 1000
EVENTS = 40
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
CHANGES_S = 0.05


class Users(UserManager):
    """The one account by its password; a certificate is a user too; nobody else."""

    def get_user(self, iserver: object, username: object = None, password: object = None, certificate: object = None) -> User | None:
        if username == "svc_report" and password == "placeholder":
            return User(role=UserRole.Admin, name="svc_report")
        if certificate is not None:
            return User(role=UserRole.Admin, name="certificate")
        return None


async def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed application certificate and its key, made once."""
    key, made = folder / f"{name}.pem", folder / f"{name}.der"
    await setup_self_signed_certificate(
        key, made, f"urn:plant:{name}", "plant", [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH], {"commonName": name}
    )
    return made, key


async def serve(address: str, port: str, folder: Path) -> None:
    server = Server(user_manager=Users())
    await server.init()
    server.set_endpoint(f"opc.tcp://{address}:{port}/")
    made, key = await certificate(folder, "server")
    await server.load_certificate(str(made))
    await server.load_private_key(str(key))
    policies = [ua.SecurityPolicyType.NoSecurity, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]
    server.set_security_policy(policies, permission_ruleset=SimpleRoleRuleset())
    server.set_identity_tokens([ua.UserNameIdentityToken, ua.X509IdentityToken])
    index = await server.register_namespace("urn:plant:line")
    line = await server.nodes.objects.add_folder(ua.NodeId("Line", index), ua.QualifiedName("Line", index))
    nodes = []
    for number in range(NODES):
        name = f"Line/V{number:02d}"
        node = await line.add_variable(ua.NodeId(name, index), ua.QualifiedName(name, index), float(number))
        await node.set_writable()
        nodes.append(node)
    # A page of history: what is left comes with a continuation point.
    server.iserver.history_manager.storage.max_history_data_response_size = 300
    for node in nodes[:4]:
        await server.historize_node_data_change(node, period=None, count=100_000)
        for step in range(HISTORY):
            value = ua.DataValue(ua.Variant(float(step), ua.VariantType.Double), SourceTimestamp=BEGIN + timedelta(seconds=step))
            await server.iserver.history_manager.storage.save_node_value(node.nodeid, value)

    async def double(parent: object, value: ua.Variant) -> list[ua.Variant]:
        return [ua.Variant(value.Value * 2, ua.VariantType.Double)]

    kinds = [ua.VariantType.Double]
    await line.add_method(ua.NodeId("Line/Double", index), ua.QualifiedName("Double", index), double, kinds, kinds)
    alarms = await server.create_custom_event_type(index, "Alarm", ua.ObjectIds.BaseEventType, [("Line", ua.VariantType.String)])
    source = await server.get_event_generator(alarms, server.nodes.server)
    await server.historize_node_event(server.nodes.server, period=None, count=100_000)
    async with server:
        for _ in range(EVENTS):
            await source.trigger()
        (folder / "ready").touch()
        tick = 0
        while True:
            await asyncio.sleep(CHANGES_S)
            tick += 1
            for node in nodes[10:15]:
                await node.write_value(float(tick))
            if tick % 4 == 0:
                source.event.Message = ua.LocalizedText("synthetic")
                await source.trigger()


def main(address: str, port: str, folder: str) -> None:
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    asyncio.run(serve(address, port, Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
