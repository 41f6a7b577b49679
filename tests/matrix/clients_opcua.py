"""OPC UA's client of the table in Python: asyncua. Values are counted as the library hands them over, decoded."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.ua_binary import struct_from_binary

from tests.matrix.ledger import Moved
from tests.matrix.servers import ACCOUNT, PLACEHOLDER, Server

Ledger = list[Moved]
Verb = Callable[[Server], Ledger]
WAIT_S = 20.0
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

logging.getLogger("asyncua").setLevel(logging.CRITICAL)


def node(number: int) -> ua.NodeId:
    return ua.NodeId(f"Line/V{number:02d}", 2)


FOLDER, METHOD = ua.NodeId("Line", 2), ua.NodeId("Line/Double", 2)


@contextlib.asynccontextmanager
async def session(server: Server, *, certificate: bool = False, encrypted: bool = False) -> AsyncIterator[Any]:
    client = Client(f"opc.tcp://{server.address}:{server.port}/", timeout=15, watchdog_intervall=60)
    client.application_uri = "urn:plant:client"
    folder = server.facts.get("folder")
    if encrypted:
        await client.set_security(
            SecurityPolicyBasic256Sha256, str(folder / "server.der"), str(folder / "server.pem"),
            server_certificate=str(folder / "server.der"), mode=ua.MessageSecurityMode.SignAndEncrypt,
        )  # fmt: skip
        client.application_uri = "urn:plant:server"
    if certificate:
        await client.load_client_certificate(str(folder / "server.der"))
        await client.load_private_key(str(folder / "server.pem"))
    else:
        client.set_user(ACCOUNT)
        client.set_password(PLACEHOLDER)
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()
        await asyncio.sleep(0.02)


def _verb(work: Callable[[Any, Server], Awaitable[Ledger]], **options: bool) -> Verb:
    def run(server: Server) -> Ledger:
        async def body() -> Ledger:
            async with session(server, **options) as client:
                return await work(client, server)

        return asyncio.run(asyncio.wait_for(body(), WAIT_S))

    return run


def _values(operation: str, count: int) -> Ledger:
    return [Moved(ACCOUNT, operation, values=count)]


async def read(client: Any, server: Server) -> Ledger:
    nodes = [client.get_node(node(number)) for number in range(40)]
    values = [await client.read_values(nodes) for _ in range(3)]
    single = await client.get_node(node(1)).read_value()
    return _values("read", sum(map(len, values)) + (single is not None))


async def read_in_chunks(client: Any, server: Server) -> Ledger:
    """An answer of several chunks (OPC UA Part 6, 6.7.2)."""
    wanted = [ua.ReadValueId(NodeId=node(number % 40), AttributeId=ua.AttributeIds.Value) for number in range(5000)]
    return _values("read", len(await client.uaclient.read(ua.ReadParameters(NodesToRead=wanted))))


async def write(client: Any, server: Server) -> Ledger:
    for value in (1.0, 2.0):
        await client.write_values(
            [client.get_node(node(number)) for number in range(20, 30)], [ua.Variant(value, ua.VariantType.Double)] * 10
        )
    return _values("write", 20)


async def browse(client: Any, server: Server) -> Ledger:
    """The references of one folder; requests and responses are what is counted."""
    assert await client.get_node(FOLDER).get_children()
    return [Moved(ACCOUNT, "browse", messages=2)]


async def browse_next(client: Any, server: Server) -> Ledger:
    """Browse, then BrowseNext until no continuation point comes."""
    description = ua.BrowseDescription(
        NodeId=FOLDER, BrowseDirection=ua.BrowseDirection.Forward, ReferenceTypeId=ua.NodeId(33), IncludeSubtypes=True,
        ResultMask=ua.BrowseResultMask.All,
    )  # fmt: skip
    parameters = ua.BrowseParameters(NodesToBrowse=[description], RequestedMaxReferencesPerNode=15)
    result = (await client.uaclient.browse(parameters))[0]
    requests = 1
    while result.ContinuationPoint:
        following = ua.BrowseNextParameters(ReleaseContinuationPoints=False, ContinuationPoints=[result.ContinuationPoint])
        result = (await client.uaclient.browse_next(following))[0]
        requests += 1
    assert requests > 2
    # A request and its response are a message each.
    return [Moved(ACCOUNT, "browse", messages=2 * requests)]


async def call(client: Any, server: Server) -> Ledger:
    for value in (1.0, 2.0, 3.0):
        assert await client.get_node(FOLDER).call_method(METHOD, value) == 2 * value
    return [Moved(ACCOUNT, "call", messages=6)]


async def history(client: Any, server: Server) -> Ledger:
    """HistoryRead raw of four nodes, a page at a time, following every continuation point."""
    given = requests = 0
    details = ua.ReadRawModifiedDetails(
        IsReadModified=False,
        StartTime=BEGIN,
        EndTime=BEGIN + timedelta(days=1),
        NumValuesPerNode=server.facts.get("page", 0),
        ReturnBounds=False,
    )
    wanted = [ua.HistoryReadValueId(NodeId=node(number)) for number in range(4)]
    while wanted:
        parameters = ua.HistoryReadParameters(HistoryReadDetails=details, NodesToRead=wanted)
        results = await client.uaclient.history_read(parameters)
        requests += 1
        following = []
        for one, result in zip(wanted, results, strict=True):
            data = result.HistoryData
            given += len(data.DataValues) if isinstance(data, ua.HistoryData) else 0
            if result.ContinuationPoint:
                following.append(ua.HistoryReadValueId(NodeId=one.NodeId, ContinuationPoint=result.ContinuationPoint))
        wanted = following
    assert requests > 2
    assert given >= 4000
    return [Moved(ACCOUNT, "history-read", values=given, messages=2 * requests)]


async def history_in_chunks(client: Any, server: Server) -> Ledger:
    """One HistoryRead of four whole histories: an answer of several chunks."""
    details = ua.ReadRawModifiedDetails(IsReadModified=False, StartTime=BEGIN, EndTime=BEGIN + timedelta(days=1), ReturnBounds=False)
    wanted = [ua.HistoryReadValueId(NodeId=node(number)) for number in range(4)]
    results = await client.uaclient.history_read(ua.HistoryReadParameters(HistoryReadDetails=details, NodesToRead=wanted))
    return _values("history-read", sum(len(result.HistoryData.DataValues) for result in results))


async def event_history(client: Any, server: Server) -> Ledger:
    """HistoryRead of the events that the server has kept (Part 11, 6.4.2)."""
    paths = [[ua.QualifiedName(name, 0)] for name in ("EventId", "Time", "Message")]
    kind = ua.NodeId(ua.ObjectIds.BaseEventType)
    clauses = [ua.SimpleAttributeOperand(TypeDefinitionId=kind, BrowsePath=path, AttributeId=ua.AttributeIds.Value) for path in paths]
    details = ua.ReadEventDetails(StartTime=BEGIN, EndTime=BEGIN + timedelta(days=36_500), Filter=ua.EventFilter(SelectClauses=clauses))
    wanted = [ua.HistoryReadValueId(NodeId=ua.NodeId(ua.ObjectIds.Server))]
    results = await client.uaclient.history_read(ua.HistoryReadParameters(HistoryReadDetails=details, NodesToRead=wanted))
    results[0].StatusCode.check()
    events = results[0].HistoryData.Events
    assert len(events) > 10
    return _values("history-read", len(events))


class Counter:
    def __init__(self) -> None:
        self.values = 0

    def datachange_notification(self, node: object, value: object, data: object) -> None:
        self.values += 1

    def event_notification(self, event: object) -> None:
        self.values += 1


async def subscribe(client: Any, server: Server) -> Ledger:
    counter = Counter()
    subscription = await client.create_subscription(100, counter)
    await subscription.subscribe_data_change([client.get_node(node(number)) for number in range(8, 16)])
    await asyncio.sleep(0.7)
    await subscription.delete()
    await asyncio.sleep(0.1)
    return _values("subscribe", counter.values)


async def events(client: Any, server: Server) -> Ledger:
    counter = Counter()
    subscription = await client.create_subscription(100, counter)
    await subscription.subscribe_events()
    await asyncio.sleep(0.9)
    await subscription.delete()
    await asyncio.sleep(0.1)
    assert counter.values
    return _values("subscribe", counter.values)


async def monitored_items(client: Any, server: Server) -> Ledger:
    """Items modified and deleted while the subscription runs."""
    counter = Counter()
    subscription = await client.create_subscription(100, counter)
    items = await subscription.subscribe_data_change([client.get_node(node(number)) for number in range(8, 16)])
    await asyncio.sleep(0.3)
    await subscription.modify_monitored_item(items[3], 250.0)
    await asyncio.sleep(0.3)
    # Two that never change: what is on its way for a deleted item, the library drops uncounted.
    await subscription.unsubscribe(items[:2])
    await asyncio.sleep(0.3)
    await subscription.delete()
    await asyncio.sleep(0.1)
    return _values("subscribe", counter.values)


def _notified(answer: Any) -> int:
    count = 0
    for data in answer.Parameters.NotificationMessage.NotificationData or []:
        count += len(getattr(data, "MonitoredItems", None) or []) + len(getattr(data, "Events", None) or [])
    return count


async def _subscription(client: Any, nodes: Sequence[int]) -> int:
    parameters = ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=100, RequestedLifetimeCount=3000, RequestedMaxKeepAliveCount=50, PublishingEnabled=True
    )
    answer = await client.uaclient._send_request(ua.CreateSubscriptionRequest(Parameters=parameters))
    made = struct_from_binary(ua.CreateSubscriptionResponse, answer)
    number = made.Parameters.SubscriptionId
    items = [
        ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=node(one), AttributeId=ua.AttributeIds.Value),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=ua.MonitoringParameters(ClientHandle=one, SamplingInterval=50, QueueSize=10, DiscardOldest=True),
        )
        for one in nodes
    ]
    wanted = ua.CreateMonitoredItemsParameters(SubscriptionId=number, TimestampsToReturn=ua.TimestampsToReturn.Both, ItemsToCreate=items)
    await client.uaclient._send_request(ua.CreateMonitoredItemsRequest(Parameters=wanted))
    return int(number)


async def republish(client: Any, server: Server) -> Ledger:
    """Publish without acknowledgement, then the same notifications once more by Republish."""
    number = await _subscription(client, range(10, 15))
    count, sequences = 0, []
    for _ in range(4):
        answer = await client.uaclient.publish([])
        count += _notified(answer)
        sequences.append(answer.Parameters.NotificationMessage.SequenceNumber)
    for sequence in sequences:
        parameters = ua.RepublishParameters(SubscriptionId=number, RetransmitSequenceNumber=sequence)
        again = struct_from_binary(ua.RepublishResponse, await client.uaclient._send_request(ua.RepublishRequest(Parameters=parameters)))
        message = again.NotificationMessage
        count += sum(len(data.MonitoredItems) for data in message.NotificationData)
    await client.uaclient.delete_subscriptions([number])
    return _values("subscribe", count)


def transfer(server: Server) -> Ledger:
    """A subscription made on one connection and moved to another (Part 4, 5.13.7)."""

    async def body() -> Ledger:
        async with session(server) as client:
            number = await _subscription(client, range(10, 15))
            count = _notified(await client.uaclient.publish([]))
            # asyncua's server forgets a subscription that waits for a Publish of the connection it is taken from.
            waiting = [asyncio.create_task(client.uaclient.publish([])) for _ in range(3)]
            await asyncio.sleep(0.01)
            async with session(server) as other:
                parameters = ua.TransferSubscriptionsParameters(SubscriptionIds=[number], SendInitialValues=True)
                results = await other.uaclient.transfer_subscriptions(parameters)
                results[0].StatusCode.check()
                for _ in range(4):
                    count += _notified(await other.uaclient.publish([]))
                await other.uaclient.delete_subscriptions([number])
        # Those that were not answered end with their connection.
        for answer in await asyncio.gather(*waiting, return_exceptions=True):
            count += 0 if isinstance(answer, BaseException) else _notified(answer)
        return _values("subscribe", count)

    return asyncio.run(asyncio.wait_for(body(), WAIT_S))


async def encrypted(client: Any, server: Server) -> Ledger:
    """The client counts its values; the tap can only say that they are encrypted."""
    values = await client.read_values([client.get_node(node(number)) for number in range(40)])
    return _values("read", len(values))


async def certificate(client: Any, server: Server) -> Ledger:
    values = await client.read_values([client.get_node(node(number)) for number in range(40)])
    # asyncua adds the application's URI as a second common name, and the last of a subject is its own.
    return [Moved("certificate:CN=urn:plant:server", "read", values=len(values))]


ASYNCUA: dict[str, Verb] = {
    "read": _verb(read),
    "read in chunks": _verb(read_in_chunks),
    "write": _verb(write),
    "browse": _verb(browse),
    "browse next": _verb(browse_next),
    "call": _verb(call),
    "history read, continuation points": _verb(history),
    "history read in chunks": _verb(history_in_chunks),
    "history read, events": _verb(event_history),
    "subscribe": _verb(subscribe),
    "events": _verb(events),
    "monitored items modified, deleted": _verb(monitored_items),
    "republish": _verb(republish),
    "subscription transferred": transfer,
    "X.509 user token": _verb(certificate, certificate=True),
    "SignAndEncrypt (sizes only)": _verb(encrypted, encrypted=True),
}


def versions() -> dict[str, str]:
    return {"asyncua": version("asyncua")}
