"""NetworkMessages of OPC UA PubSub, with the number of their fields: UADP as asyncua encodes it, JSON as the specification shows it.

(OPC 10000-14, 7.2.4 and 7.2.5; topics: 7.3.4.7)
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from asyncua import ua
from asyncua.pubsub import uadp

Fields = Mapping[str, Any]  # Any: what JSON writes
HEADER = uadp.UadpDataSetMessageHeader


def topic(encoding: str, kind: str, publisher: str, *more: str) -> str:
    """`opcua/json|uadp/data/…` (7.3.4.7)."""
    return "/".join(["opcua", encoding, kind, publisher, *more])


def uadp_message(
    datasets: Sequence[Sequence[float]], *, encoding: str = "variant", publisher: str = "press-1", header: bool = True
) -> tuple[bytes, int]:
    """A NetworkMessage of key frames, one for each data set, and its fields; ``encoding``: variant, value, delta or raw.

    Without ``header`` nothing says how many data sets there are and where each ends.
    """
    frames: list[Any] = []  # Any: asyncua's kinds of messages have no common type
    for fields in datasets:
        variants = [ua.Variant(value, ua.VariantType.Double) for value in fields]
        own = HEADER(SequenceNo=ua.UInt16(7), Status=ua.UInt16(0), CfgMajorVersion=ua.UInt32(1))
        if encoding == "value":
            now = ua.DateTime(2026, 4, 7)
            frames.append(uadp.UadpDataSetDataValue(own, [ua.DataValue(one, SourceTimestamp=now) for one in variants]))
        elif encoding == "delta":
            frames.append(uadp.UadpDataSetDeltaVariant(own, [uadp.DeltaVariant(ua.UInt16(at), one) for at, one in enumerate(variants)]))
        elif encoding == "raw":
            frames.append(uadp.UadpDataSetRaw(own, bytes(8 * len(fields))))
        else:
            frames.append(uadp.UadpDataSetVariant(own, variants))
    written = uadp.UadpNetworkMessage(
        Header=uadp.UadpHeader(PublisherId=ua.String(publisher)),
        GroupHeader=uadp.UadpGroupHeader(WriterGroupId=ua.UInt16(1), SequenceNo=ua.UInt16(9)),
        DataSetPayloadHeader=[ua.UInt16(100 + number) for number in range(len(frames) if header else 0)],
        Payload=frames,
    )
    return written.to_binary(), sum(len(fields) for fields in datasets)


def uadp_keep_alive() -> bytes:
    """A NetworkMessage of one keep-alive (7.2.4.5.8)."""
    frame = uadp.UadpDataSetKeepAlive(HEADER(SequenceNo=ua.UInt16(7)))
    message = uadp.UadpNetworkMessage(
        Header=uadp.UadpHeader(PublisherId=ua.UInt16(7)), DataSetPayloadHeader=[ua.UInt16(1)], Payload=[frame]
    )
    return bytes(message.to_binary())


def json_message(
    datasets: Sequence[Fields], *, network: bool = True, dataset: bool = True, single: bool = False, kind: str = "ua-data"
) -> tuple[bytes, int]:
    """The same in JSON, with the headers asked for (7.2.5.3, 7.2.5.4)."""
    each: list[Any] = [
        {"DataSetWriterId": 100 + number, "SequenceNumber": 7, "MetaDataVersion": {"MajorVersion": 1, "MinorVersion": 1}, "Payload": fields}
        if dataset
        else fields
        for number, fields in enumerate(datasets)
    ]
    messages: Any = each[0] if single else each
    whole = {"MessageId": "8f3c", "MessageType": kind, "PublisherId": "press-1", "Messages": messages} if network else messages
    return json.dumps(whole).encode(), sum(len(fields) for fields in datasets)
