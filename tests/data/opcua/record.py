"""Record OPC UA conversations as their bytes pass a proxy, with what the client itself counted.

usage: record.py [SCENARIO…]      writes SCENARIO.opcua beside this file

A line of a recording is `c HEX` or `s HEX` (bytes from client or server, as they were read from the socket), or
`! NAME COUNT`: what the client asked for or was given, counted by the client. Server and client are asyncua 2.1.0.
"""

import asyncio
import contextlib
import datetime
import pathlib
import sys
import tempfile

from asyncua import Client, Server, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.server.user_managers import UserRole
from asyncua.ua.uaerrors import UaError
from cryptography.x509.oid import ExtendedKeyUsageOID

HERE = pathlib.Path(__file__).parent
PORT, PROXY = 48401, 48402
POINTS = 40
PASSWORD = "correct-horse"


class Users:
    def get_user(self, iserver, username=None, password=None, certificate=None):
        if username is None:
            return User(role=UserRole.User)
        if username == "svc_hist" and password == PASSWORD:
            return User(role=UserRole.User, name=username)
        return None


class Recording:
    def __init__(self, name):
        self.name, self.lines, self.ledger = name, [], {}

    def say(self, side, data):
        self.lines.append(f"{side} {data.hex()}")

    def count(self, name, more):
        self.ledger[name] = self.ledger.get(name, 0) + more

    async def pump(self, side, reader, writer):
        while data := await reader.read(65536):
            self.say(side, data)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def accept(self, reader, writer):
        there, here = await asyncio.open_connection("127.0.0.1", PORT)
        await asyncio.gather(self.pump("c", reader, here), self.pump("s", there, writer), return_exceptions=True)

    def write(self):
        head = f"# {self.name}: asyncua 2.1.0 client and server through record.py"
        ledger = [f"! {name} {count}" for name, count in self.ledger.items()]
        (HERE / f"{self.name}.opcua").write_text("\n".join([head, *self.lines, *ledger]) + "\n")


def stamped(number):
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=number)
    return ua.DataValue(ua.Variant(float(number), ua.VariantType.Double), SourceTimestamp=when, ServerTimestamp=when)


async def serve(directory):
    server = Server(user_manager=Users())
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{PORT}/plant")
    policies = [
        ua.SecurityPolicyType.NoSecurity,
        ua.SecurityPolicyType.Basic256Sha256_Sign,
        ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ]
    for name in ("server", "client"):
        await setup_self_signed_certificate(
            directory / f"{name}.pem",
            directory / f"{name}.der",
            f"urn:north:{name}",
            "north",
            [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
            {"commonName": f"edge-{name}"},
        )
    await server.load_certificate(str(directory / "server.der"))
    await server.load_private_key(str(directory / "server.pem"))
    server.set_security_policy(policies, permission_ruleset=SimpleRoleRuleset())
    server.set_identity_tokens([ua.AnonymousIdentityToken, ua.UserNameIdentityToken])
    index = await server.register_namespace("urn:north:line1")
    folder = await server.nodes.objects.add_folder(ua.NodeId("Line1/Telemetry", index), ua.QualifiedName("Telemetry", index))
    points = []
    for number in range(POINTS):
        point = await folder.add_variable(
            ua.NodeId(f"Line1/Telemetry/T{number:02d}", index), ua.QualifiedName(f"T{number:02d}", index), float(number)
        )
        await point.set_writable()
        points.append(point)
    wave = await folder.add_variable(
        ua.NodeId("Line1/Telemetry/Wave", index), ua.QualifiedName("Wave", index), [float(i) for i in range(9_000)]
    )

    async def double(parent, value):
        return [ua.Variant(value.Value * 2, ua.VariantType.Double)]

    method = await folder.add_method(
        ua.NodeId("Line1/Recipe/Double", index), ua.QualifiedName("Double", index), double, [ua.VariantType.Double], [ua.VariantType.Double]
    )
    return server, folder, points, wave, method


async def read(client, nodes, recording, house):
    _, points, wave, _method = house
    for _ in range(3):
        values = await client.read_values([client.get_node(p.nodeid) for p in points])
        recording.count("read.values", len(values))
    await client.get_node(wave.nodeid).read_value()
    recording.count("read.values", 1)
    ids = [ua.ReadValueId(NodeId=p.nodeid, AttributeId=ua.AttributeIds.Value) for p in points] * 30
    results = await client.uaclient.read(ua.ReadParameters(NodesToRead=ids))
    recording.count("read.values", len(results))


async def wave(client, nodes, recording, house):
    await client.get_node(house[2].nodeid).read_value()
    recording.count("read.values", 1)


async def write(client, nodes, recording, house):
    _, points, _wave, _method = house
    targets = [client.get_node(p.nodeid) for p in points[:10]]
    await client.write_values(targets, [ua.Variant(1.5, ua.VariantType.Double)] * 10)
    recording.count("write.values", 10)
    big = ua.DataValue(ua.Variant([float(i) for i in range(9_000)], ua.VariantType.Double))
    with contextlib.suppress(UaError):
        await client.get_node(points[39].nodeid).write_value(big)
    recording.count("write.values", 1)


async def browse(client, nodes, recording, house):
    folder, _points, _wave, _method = house
    parameters = ua.BrowseParameters()
    parameters.RequestedMaxReferencesPerNode = 15
    description = ua.BrowseDescription(
        NodeId=folder.nodeid,
        BrowseDirection=ua.BrowseDirection.Forward,
        ReferenceTypeId=ua.NodeId(33),
        IncludeSubtypes=True,
        ResultMask=ua.BrowseResultMask.All,
    )
    parameters.NodesToBrowse = [description]
    result = (await client.uaclient.browse(parameters))[0]
    recording.count("browse.requests", 1)
    recording.count("browse.references", len(result.References))
    while result.ContinuationPoint:
        following = ua.BrowseNextParameters(ReleaseContinuationPoints=False, ContinuationPoints=[result.ContinuationPoint])
        result = (await client.uaclient.browse_next(following))[0]
        recording.count("browse.requests", 1)
        recording.count("browse.references", len(result.References))


async def history(client, nodes, recording, house):
    _, points, _wave, _method = house
    utc = datetime.UTC
    start, end = datetime.datetime(2020, 1, 1, tzinfo=utc), datetime.datetime(2100, 1, 1, tzinfo=utc)
    for point in points[:2]:
        continuation, given = None, 0
        while True:
            details = ua.ReadRawModifiedDetails(IsReadModified=False, StartTime=start, EndTime=end, NumValuesPerNode=0, ReturnBounds=False)
            value = ua.HistoryReadValueId(NodeId=point.nodeid, ContinuationPoint=continuation)
            result = (
                await client.uaclient.history_read(
                    ua.HistoryReadParameters(HistoryReadDetails=details, TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=[value])
                )
            )[0]
            recording.count("history-read.requests", 1)
            data = result.HistoryData if isinstance(result.HistoryData, ua.HistoryData) else None
            given += len(data.DataValues) if data else 0
            if not result.ContinuationPoint or not data:
                break
            continuation = result.ContinuationPoint
        recording.count("history-read.values", given)


async def subscribe(client, nodes, recording, house):
    _, points, _wave, _method = house

    class Handler:
        def datachange_notification(self, node, value, data):
            recording.count("subscribe.values", 1)

    subscription = await client.create_subscription(50, Handler())
    await subscription.subscribe_data_change([client.get_node(p.nodeid) for p in points[:12]])
    for step in range(5):
        for point in points[:12]:
            await point.write_value(float(100 + step))
        await asyncio.sleep(0.15)
    await subscription.delete()


async def call(client, nodes, recording, house):
    folder, _points, _wave, method = house
    for value in (1.0, 2.0, 3.0):
        answer = await client.get_node(folder.nodeid).call_method(method.nodeid, value)
        assert answer == 2 * value
        recording.count("call.requests", 1)


async def everything(client, nodes, recording, house):
    await write(client, nodes, recording, house)
    await browse(client, nodes, recording, house)
    await call(client, nodes, recording, house)
    values = await client.read_values([client.get_node(p.nodeid) for p in house[1]])
    recording.count("read.values", len(values))


SCENARIOS = {
    "read": (read, None, None),
    "write": (write, None, None),
    "browse": (browse, None, None),
    "history": (history, None, None),
    "subscribe": (subscribe, None, None),
    "call": (call, None, None),
    "username": (everything, None, "svc_hist"),
    "refused": (None, None, "mallory"),
    "sign": (wave, ua.MessageSecurityMode.Sign, None),
    "sign-username": (everything, ua.MessageSecurityMode.Sign, "svc_hist"),
    "encrypted": (everything, ua.MessageSecurityMode.SignAndEncrypt, "svc_hist"),
}


async def main(names):
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(temporary)
        server, *house = await serve(directory)
        server.iserver.history_manager.storage.max_history_data_response_size = 100
        async with server:
            for point in house[1][:2]:
                await point.write_value(stamped(0))
                await server.historize_node_data_change(point, period=None, count=2000)
            for number in range(350):
                for point in house[1][:2]:
                    await point.write_value(stamped(number))
            await asyncio.sleep(0.5)
            for name in names or SCENARIOS:
                act, mode, user = SCENARIOS[name]
                recording = Recording(name)
                proxy = await asyncio.start_server(recording.accept, "127.0.0.1", PROXY)
                client = Client(f"opc.tcp://127.0.0.1:{PROXY}/plant")
                client.application_uri = "urn:north:client"
                if mode:
                    await client.set_security(
                        SecurityPolicyBasic256Sha256,
                        str(directory / "client.der"),
                        str(directory / "client.pem"),
                        server_certificate=str(directory / "server.der"),
                        mode=mode,
                    )
                if user:
                    client.set_user(user)
                    client.set_password(PASSWORD)
                try:
                    async with client:
                        await act(client, None, recording, house)
                except UaError:
                    recording.count("refused", 1)
                await asyncio.sleep(0.2)
                proxy.close()
                recording.write()
                print(name, recording.ledger, sum(len(line) for line in recording.lines) // 2, "bytes")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
