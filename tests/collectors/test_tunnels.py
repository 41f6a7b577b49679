"""The same conversation plain and inside every encapsulation is the same rows and bytes, from the file to the windows.

The frames are made by scapy, whose encoders know nothing of the readers here.
"""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III
from scapy.contrib.etherip import EtherIP
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTP_U_Header
from scapy.contrib.mpls import MPLS, EoMCW
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import GRE, CookedLinux, Dot1AD, Dot1Q, Ether
from scapy.layers.l2tp import L2TP
from scapy.layers.ppp import HDLC, PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw
from scapy.utils import PcapWriter

from hopwatch_wire import Sensor

DATA = Path(__file__).parent.parent / "data"
START_S = 1_775_558_528
SEGMENT_BYTES = 1400


def conversation(v6: bool = False) -> list[Packet]:
    """IP packets of a recorded login and SELECT, with handshake and end."""
    script = json.loads((DATA / "postgresql" / "copy-out-text.json").read_text())["script"]
    address = IPv6 if v6 else IP
    ends = ("2001:db8::1", "2001:db8::2") if v6 else ("10.0.0.1", "10.0.0.2")
    ports, sequence = (50_001, 5432), [1000, 9000]
    made: list[Packet] = []

    def say(end: int, flags: str, payload: bytes = b"") -> None:
        segment = TCP(sport=ports[end], dport=ports[1 - end], flags=flags, seq=sequence[end], ack=sequence[1 - end] if "A" in flags else 0)
        made.append(address(src=ends[end], dst=ends[1 - end]) / segment / Raw(payload))
        sequence[end] += len(payload) + ("S" in flags) + ("F" in flags)

    say(0, "S")
    say(1, "SA")
    say(0, "A")
    for side, text in script:
        end, data = ("client", "server").index(side), bytes.fromhex(text)
        for at in range(0, len(data), SEGMENT_BYTES):
            say(end, "PA", data[at : at + SEGMENT_BYTES])
    say(0, "FA")
    say(1, "FA")
    say(0, "A")
    return made


def outer(inner: Packet) -> Packet:
    """Tunnel endpoints in the direction of the packet."""
    forward = inner[TCP].dport == 5432
    ends = ("192.0.2.1", "192.0.2.2") if forward else ("192.0.2.2", "192.0.2.1")
    return IP(src=ends[0], dst=ends[1], id=random.Random(len(inner)).randrange(65536))


def outer6(inner: Packet) -> Packet:
    forward = inner[TCP].dport == 5432
    return IPv6(src="2001:db8:ffff::1", dst="2001:db8:ffff::2") if forward else IPv6(src="2001:db8:ffff::2", dst="2001:db8:ffff::1")


def ether(inner: Packet) -> Packet:
    """The inner Ethernet frame; padded as a card does."""
    frame = Ether(src="02:00:00:00:00:0a", dst="02:00:00:00:00:0b") / inner
    return Ether(bytes(frame).ljust(60, b"\0"))


def label(inner: Packet) -> int:
    """Each direction has another one."""
    return 100 if inner[TCP].dport == 5432 else 200


E = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")

WRAPPED: dict[str, tuple[Callable[[Packet], Packet], str | None]] = {
    "vlan": (lambda p: E / Dot1Q(vlan=120) / p, "vlan:120"),
    "q-in-q": (lambda p: E / Dot1AD(vlan=10) / Dot1Q(vlan=20) / p, "vlan:10.20"),
    "ip-in-ip": (lambda p: E / outer(p) / p, None),
    "ip-in-ipv6": (lambda p: E / outer6(p) / p, None),
    "gre": (lambda p: E / outer(p) / GRE() / p, None),
    "gre with everything": (lambda p: E / outer(p) / GRE(chksum_present=1, key_present=1, key=77, seqnum_present=1) / p, "gre:77"),
    "gre over ipv6": (lambda p: E / outer6(p) / GRE() / p, None),
    "gre of ethernet on a vlan": (lambda p: E / Dot1Q(vlan=330) / outer(p) / GRE(key_present=1, key=9) / ether(p), "vlan:330/gre:9"),
    "nvgre": (lambda p: E / outer(p) / GRE(key_present=1, key=5001 << 8 | p[TCP].sport % 256) / ether(p), "vsid:5001"),
    "erspan 2": (
        lambda p: E / outer(p) / GRE(proto=0x88BE, seqnum_present=1) / ERSPAN_II(vlan=120, session_id=5) / ether(p),
        "erspan:5/vlan:120",
    ),
    "erspan 3": (lambda p: E / outer(p) / GRE(proto=0x22EB, seqnum_present=1) / ERSPAN_III(vlan=0, session_id=6) / ether(p), "erspan:6"),
    "vxlan": (lambda p: E / outer(p) / UDP(sport=p[TCP].sport, dport=4789) / VXLAN(vni=7, flags=8) / ether(p), "vni:7"),
    "vxlan over ipv6 with an inner tag": (
        lambda p: E / outer6(p) / UDP(dport=4789) / VXLAN(vni=7, flags=8) / Ether(src="02:00:00:00:00:0a") / Dot1Q(vlan=5) / p,
        "vni:7/vlan:5",
    ),
    "geneve": (lambda p: E / outer(p) / UDP(dport=6081) / GENEVE(vni=8) / ether(p), "vni:8"),
    "gtp-u": (lambda p: E / outer(p) / UDP(sport=2152, dport=2152) / GTP_U_Header(teid=label(p)) / p, None),
    "mpls": (lambda p: E / MPLS(label=label(p), s=0) / MPLS(label=3000, s=1) / p, None),
    "pseudowire": (lambda p: E / MPLS(label=label(p), s=1) / EoMCW() / ether(p), None),
    "pseudowire without control word": (lambda p: E / MPLS(label=label(p), s=1) / ether(p), None),
    "mpls in gre": (lambda p: E / outer(p) / GRE(proto=0x8847) / MPLS(label=label(p), s=1) / p, None),
    "pppoe": (lambda p: E / PPPoE(sessionid=17) / PPP() / p, None),
    "l2tp": (lambda p: E / outer(p) / UDP(sport=1701, dport=1701) / L2TP(tunnel_id=label(p), session_id=1) / HDLC() / PPP() / p, None),
    "etherip": (lambda p: E / outer(p) / EtherIP() / ether(p), None),
    "a tunnel in a tunnel": (
        lambda p: E / outer(p) / GRE(key_present=1, key=1) / outer(p) / UDP(dport=4789) / VXLAN(vni=7, flags=8) / ether(p),
        "gre:1/vni:7",
    ),
}


def written(path: Path, frames: Iterable[Packet], linktype: int = 1) -> Path:
    with PcapWriter(str(path), linktype=linktype, nano=True) as writer:
        for number, frame in enumerate(frames):
            frame.time = START_S + number / 1000
            writer.write(frame)
    return path


Read = tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]], dict[str, int]]


def read(*paths: Path, **options: Any) -> Read:
    """Flows, losses, conversations and counters."""
    sensor = Sensor("north", "tap-1", conversations=True, **options)
    events: list[bytes] = []
    if len(paths) == 1:
        sensor.open_file(str(paths[0]))
    else:
        sensor.open_files([str(path) for path in paths])
    done = False
    while not done:
        batch, done = sensor.read()
        events += batch
    events += sensor.finish()
    parsed = [json.loads(event) for event in events]
    flows = [event for event in parsed if event["kind"] == "flow"]
    losses = [event for event in parsed if event["kind"] == "loss"]
    return flows, losses, [json.loads(line) for line in sensor.conversations()], sensor.counters()


def told(flows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a flow says apart from its context and the ids that hash it."""
    return [{name: value for name, value in flow.items() if name not in ("context", "flow_id", "event_id")} for flow in flows]


def counted(conversations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name not in ("context", "vlans")} for one in conversations]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Read:
    return read(written(tmp_path_factory.mktemp("plain") / "plain.pcap", (E / packet for packet in conversation())))


def test_the_plain_conversation_has_rows_and_is_whole(plain: Read) -> None:
    flows, losses, (one,), counters = plain
    assert sum(flow["rows"] for flow in flows) > 0
    assert (losses, one["protocols"], one["context"], counters["tunnelled_packets"]) == ([], ["postgresql"], None, 0)
    for side, name in (("ab", "bytes"), ("ba", "bytes_back")):
        assert one[f"stream_bytes_{side}"] == sum(
            flow[name if flow["source"]["port"] == 50_001 else {"bytes": "bytes_back", "bytes_back": "bytes"}[name]] for flow in flows
        )


@pytest.mark.parametrize("name", WRAPPED)
def test_inside_an_encapsulation_rows_and_bytes_are_those_of_the_plain_conversation(name: str, plain: Read, tmp_path: Path) -> None:
    wrap, context = WRAPPED[name]
    flows, losses, conversations, _ = read(written(tmp_path / "wrapped.pcap", map(wrap, conversation())))
    assert told(flows) == told(plain[0])
    assert (losses, counted(conversations)) == ([], counted(plain[2]))
    assert {flow["context"] for flow in flows} == {context}


@pytest.mark.parametrize("link", ["sll", "ppp", "raw", "6in4", "ipv6-in-ipv6"])
def test_on_other_links_and_in_ipv6_the_same(link: str, plain: Read, tmp_path: Path) -> None:
    if link in ("6in4", "ipv6-in-ipv6"):
        packets = conversation(v6=True)
        direct = read(written(tmp_path / "direct.pcap", (E / packet for packet in packets)))
        wrapped = [E / (outer if link == "6in4" else outer6)(packet) / packet for packet in conversation(v6=True)]
        got = read(written(tmp_path / "wrapped.pcap", wrapped))
    else:
        number, head = {"sll": (113, CookedLinux(proto=0x0800)), "ppp": (9, HDLC() / PPP(proto=0x21)), "raw": (101, None)}[link]
        frames = [head / packet if head else packet for packet in conversation()]
        direct, got = plain, read(written(tmp_path / "wrapped.pcap", frames, number))
    assert (told(got[0]), got[1], counted(got[2])) == (told(direct[0]), [], counted(direct[2]))


def in_pieces(packets: Iterable[Packet], size: int) -> list[Packet]:
    """Every packet in fragments, each packet's in an order of its own."""
    shuffled = random.Random(size)
    pieces: list[Packet] = []
    for number, packet in enumerate(packets):
        if packet.version == 4:
            packet.id = number + 1
            made = fragment(packet, size)
        else:
            packet.nh = 44
            head = packet.copy()
            head.remove_payload()
            made = fragment6(head / IPv6ExtHdrFragment(id=number, nh=6) / packet.payload, size + 48)
        shuffled.shuffle(made)
        pieces += made
    return pieces


@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("size", [8, 64, 1000])
def test_fragments_in_any_order_are_the_packets_they_were(v6: bool, size: int, tmp_path: Path) -> None:
    direct = read(written(tmp_path / "direct.pcap", (E / packet for packet in conversation(v6))))
    flows, losses, conversations, counters = read(
        written(tmp_path / "pieces.pcap", [E / one for one in in_pieces(conversation(v6), max(size, 8))])
    )
    drop = ("start", "end", "flow_id", "event_id")
    total = lambda flows, name: sum(flow[name] for flow in flows)  # noqa: E731
    for name in ("rows", "bytes", "bytes_back", "packets", "messages"):
        assert total(flows, name) == total(direct[0], name), name
    plain_counts = [{k: v for k, v in one.items() if k not in drop} for one in conversations]
    assert plain_counts == [{k: v for k, v in one.items() if k not in drop} for one in direct[2]]
    assert losses == []
    assert counters["fragments_incomplete"] == 0 < counters["fragments_reassembled"]


@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
def test_equal_datagrams_sent_at_once_in_fragments_are_no_copies_and_copies_of_fragments_are(v6: bool, tmp_path: Path) -> None:
    sent: list[list[Packet]] = []
    for number in range(3):
        datagram = UDP(sport=4000, dport=4001) / Raw(b"\xfe" * 3000)
        if v6:
            head = IPv6(src="2001:db8::1", dst="2001:db8::2", nh=44) / IPv6ExtHdrFragment(id=7 + number, nh=17)
            sent.append(fragment6(head / datagram, 1500))
        else:
            sent.append(fragment(IP(src="10.0.0.1", dst="10.0.0.2", id=7 + number) / datagram, 1400))
    once = [piece for pieces in sent for piece in pieces]
    for name, frames, copies in (("once", once, 0), ("twice", [piece for piece in once for _ in range(2)], 3)):
        _, losses, (one,), counters = read(written(tmp_path / f"{name}.pcap", [E / piece for piece in frames]))
        assert (one["packets_ab"], one["payload_bytes_ab"], losses) == (3, 9000, [])
        assert (counters["fragments_reassembled"], counters["fragments_copied"]) == (3, copies)


def test_a_fragment_that_is_missing_is_lost_by_its_bytes_and_nothing_else_is(tmp_path: Path) -> None:
    packets = conversation()
    large = max(range(len(packets)), key=lambda number: len(packets[number]))
    packets[large].id = 99
    pieces = fragment(packets[large], 600)
    frames = [*packets[:large], *pieces[:1], *pieces[2:], *packets[large + 1 :]]
    flows, losses, (one,), counters = read(written(tmp_path / "hole.pcap", [E / frame for frame in frames]))
    seen = sum(len(piece.payload) for piece in (*pieces[:1], *pieces[2:]))
    (capture,) = [loss for loss in losses if loss["stage"] == "capture"]
    assert (capture["packets"], capture["bytes"]) == (len(pieces) - 1, seen)
    assert capture["why"] == "unreadable packets: fragments of packets that were never whole"
    assert counters["fragments_incomplete"] == 1
    assert one["lost_bytes"] == len(packets[large][TCP].payload)
    assert sum(flow["completeness"]["lost_bytes"] for flow in flows) == one["lost_bytes"]


def test_the_same_addresses_in_two_contexts_are_two_connections_unless_declared_equal_or_shown_so(tmp_path: Path) -> None:
    def vxlan(packet: Packet) -> Packet:
        return E / outer(packet) / UDP(dport=4789) / VXLAN(vni=7 if packet[TCP].dport == 5432 else 9, flags=8) / ether(packet)

    def tagged(packet: Packet) -> Packet:
        return E / Dot1Q(vlan=120 if packet[TCP].dport == 5432 else 220) / packet

    for wrap, pair, name in ((tagged, "120=220", "vlan:120"), (vxlan, "vni:7=vni:9", "vni:7")):
        whole = conversation()
        midway = written(tmp_path / "midway.pcap", map(wrap, whole[3:]))
        assert (len(read(midway)[2]), len(read(midway, vlans_equal=[pair])[2])) == (2, 1)
        # A handshake shows it as well.
        path = written(tmp_path / "asymmetric.pcap", map(wrap, whole))
        for declared in ([], [pair]):
            flows, losses, conversations, counters = read(path, vlans_equal=declared)
            assert (len(conversations), losses, {flow["context"] for flow in flows}) == (1, [], {name})
            assert sum(flow["rows"] for flow in flows) > 0
            assert counters["connections_paired"] == (0 if declared else 1)
    assert conversations[0]["vlans"] == []
    with pytest.raises(ValueError, match='vlans_equal: "120", expected two steps like 120=220'):
        Sensor("north", "tap-1", vlans_equal=["120"])


def test_tunnels_beyond_the_bound_count_as_what_carries_them(tmp_path: Path) -> None:
    def deep(packet: Packet, tunnels: int) -> Packet:
        for _ in range(tunnels):
            packet = outer(packet) / packet
        return E / packet

    _, _, (one,), counters = read(written(tmp_path / "8.pcap", [deep(packet, 8) for packet in conversation()]))
    assert (one["transport"], counters["tunnel_depth"]) == ("tcp", 0)
    frames = [deep(packet, 9) for packet in conversation()]
    _, losses, (one,), counters = read(written(tmp_path / "9.pcap", frames))
    assert (one["transport"], counters["tunnel_depth"], losses) == ("ip-4", len(frames), [])
    assert one["payload_bytes_ab"] + one["payload_bytes_ba"] == sum(len(packet) for packet in conversation())


def test_a_link_type_without_a_reader_is_counted_and_named(tmp_path: Path) -> None:
    flows, losses, conversations, counters = read(written(tmp_path / "other.pcap", [Raw(b"x" * 50), Raw(b"y" * 70)], 147))
    assert (flows, conversations, counters["malformed_link_type"]) == ([], [], 2)
    (loss,) = losses
    assert (loss["stage"], loss["packets"], loss["bytes"], loss["why"]) == ("capture", 2, 120, "unreadable packets: link type 147")


def test_the_two_directions_of_a_tap_captured_apart_are_the_conversation_they_were(plain: Read, tmp_path: Path) -> None:
    frames = [E / packet for packet in conversation()]
    for number, frame in enumerate(frames):
        frame.time = START_S + number / 1000
    paths = []
    for name, port in (("a", 5432), ("b", 50_001)):
        paths.append(tmp_path / f"{name}.pcap")
        with PcapWriter(str(paths[-1]), linktype=1, nano=True) as writer:
            for frame in frames:
                if frame[TCP].dport == port:
                    writer.write(frame)
    for order in (paths, paths[::-1]):
        flows, losses, conversations, _ = read(*order)
        assert (told(flows), losses, counted(conversations)) == (told(plain[0]), [], counted(plain[2]))
