"""Records QUIC of aioquic with itself over loopback, one file a case; needs `pip install aioquic` (not a dependency here).

A line is ``> HEX`` (client) or ``< HEX`` (server), one datagram each. Keys and certificates are made for the run and thrown
away; what is said inside is encrypted. Usage: record.py DIRECTORY
"""

from __future__ import annotations

import asyncio
import pathlib
import ssl
import subprocess
import sys
import tempfile

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicProtocolVersion

V1, V2 = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2


class Answers(QuicConnectionProtocol):
    def quic_event_received(self, event: object) -> None:
        if isinstance(event, StreamDataReceived):
            self._quic.send_stream_data(event.stream_id, b"rows " * 800, end_stream=True)
            self.transmit()


class Relay(asyncio.DatagramProtocol):
    """Between client and server: writes down each datagram."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server, self.client, self.lines = server, None, []

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if address == self.server:
            self.lines.append(f"< {data.hex()}")
            self.transport.sendto(data, self.client)
        else:
            self.client = address
            self.lines.append(f"> {data.hex()}")
            self.transport.sendto(data, self.server)


async def record(
    path: pathlib.Path, pem: pathlib.Path, *, client: QuicConfiguration, server: QuicConfiguration, retry: bool = False
) -> None:
    server.load_cert_chain(pem.with_suffix(".crt"), pem)
    listening = await serve("127.0.0.1", 0, configuration=server, create_protocol=Answers, retry=retry)
    at = listening._transport.get_extra_info("sockname")
    transport, relay = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Relay(at), local_addr=("127.0.0.1", 0))
    client.verify_mode = ssl.CERT_NONE
    async with connect("127.0.0.1", transport.get_extra_info("sockname")[1], configuration=client) as session:
        reader, writer = await session.create_stream()
        writer.write(b"request " * 40)
        writer.write_eof()
        await reader.read()
    await asyncio.sleep(0.1)
    listening.close()
    transport.close()
    path.write_text("\n".join(relay.lines) + "\n")


def of(is_client: bool, versions: list[int], alpn: list[str], **more: object) -> QuicConfiguration:
    name = "plant-north.lake.example-cloud.eu" if is_client else None
    return QuicConfiguration(is_client=is_client, supported_versions=versions, alpn_protocols=alpn, server_name=name, **more)


async def main(into: pathlib.Path, pem: pathlib.Path) -> None:
    h3 = ["h3", "h3-29"]
    # A hello too long for one datagram lies in several Initial packets.
    long = [f"protocol-{number:04}" for number in range(120)] + h3
    await record(into / "v1.txt", pem, client=of(True, [V1], h3), server=of(False, [V1], h3))
    await record(into / "v2.txt", pem, client=of(True, [V2], h3), server=of(False, [V2], h3))
    await record(into / "retry.txt", pem, client=of(True, [V1], h3), server=of(False, [V1], h3), retry=True)
    await record(into / "long-hello.txt", pem, client=of(True, [V1], long), server=of(False, [V1], h3))
    # Both speak both; the client begins with 1 and the server goes on with 2 (RFC 9368).
    await record(into / "to-v2.txt", pem, client=of(True, [V2, V1], h3, original_version=V1), server=of(False, [V2, V1], h3))
    # The server does not know the client's first version and offers its own.
    await record(into / "negotiated.txt", pem, client=of(True, [V1, V2], h3, original_version=V2), server=of(False, [V1], h3))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        key = pathlib.Path(name) / "key.pem"
        made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=lake"]
        subprocess.run([*made, "-keyout", key, "-out", key.with_suffix(".crt")], check=True, capture_output=True)
        asyncio.run(main(pathlib.Path(sys.argv[1]), key))
