"""A recorder beside the tap: every frame of one interface into a capture, through a packet socket of its own."""

import contextlib
import gzip
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from examples.plant.network import KERNEL_CHOICE as LOCALHOST
from examples.plant.network import Network

SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33  # past net.core.rmem_max, as root
ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
KERNEL_CHOICE = socket.inet_aton(LOCALHOST)
# pcap with nanoseconds (draft-ietf-opsawg-pcap, 4), Ethernet.
HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)


@contextlib.contextmanager
def recording(network: Network, path: Path, *, level: int = 9) -> Iterator[None]:
    """Write what the tap sees while the body runs to ``path`` (gzip of that level: 1 keeps up with what is not kept for long)."""
    ready, stop = threading.Event(), threading.Event()

    def record() -> None:
        with (
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as tap,
            gzip.GzipFile(path, "wb", compresslevel=level, mtime=0) as out,
        ):
            tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            tap.bind((network.interface, 0))
            tap.settimeout(0.2)
            out.write(HEADER)
            ready.set()
            while True:
                try:
                    frame, ancillary, _, sender = tap.recvmsg(262_144, 256)
                except TimeoutError:
                    if stop.is_set():
                        return
                    continue
                # On lo every frame passes twice, on its way out and in; a capture keeps the incoming one.
                # What else this machine says to itself is not the plant's.
                if network.interface == "lo" and (sender[2] == PACKET_OUTGOING or frame[26:34] == KERNEL_CHOICE * 2):
                    continue
                stamps = [data for level, kind, data in ancillary if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS]
                seconds, nanoseconds = struct.unpack_from("qq", stamps[0]) if stamps else divmod(time.time_ns(), 1_000_000_000)
                out.write(struct.pack("<IIII", seconds, nanoseconds, len(frame), len(frame)) + frame)

    thread = threading.Thread(target=lambda: network.tap.call(record), daemon=True)
    thread.start()
    if not ready.wait(10):
        raise OSError(f"no packet socket on {network.interface}")
    try:
        yield
    finally:
        time.sleep(0.5)
        stop.set()
        thread.join(30)
