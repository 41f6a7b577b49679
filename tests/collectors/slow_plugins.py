"""Decoders that are wrong in one way each, on port 4000; ``tests/collectors/test_slow_path.py`` runs them."""

import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, cast

from collectors.slow import NotThisProtocol, Observation, Side


class Echo:
    """Whatever a side says is a call of one message."""

    name: ClassVar[str] = "echo"
    tcp_ports: ClassVar[tuple[int, ...]] = (4000,)
    udp_ports: ClassVar[tuple[int, ...]] = (4000,)

    def data(self, sender: Side, data: bytes) -> Iterable[Observation]:
        sizes = {"client_bytes" if sender == "client" else "server_bytes": len(data)}
        return [Observation("call", "client", ("echo",), messages=1, **cast(dict[str, Any], sizes))]

    def gap(self, sender: Side, length: int) -> Iterable[Observation]:
        return []


class Raises(Echo):
    """Raises at what begins with ``!``; its message would tell payload."""

    def data(self, sender: Side, data: bytes) -> Iterable[Observation]:
        if data.startswith(b"!"):
            raise ValueError(f"a secret: {data!r}")
        return super().data(sender, data)


class Refuses(Echo):
    def data(self, sender: Side, data: bytes) -> Iterable[Observation]:
        raise NotThisProtocol("nothing is")


class Dies(Echo):
    def data(self, sender: Side, data: bytes) -> Iterable[Observation]:
        if data.startswith(b"!"):
            os._exit(3)
        return super().data(sender, data)


class Hangs(Echo):
    def data(self, sender: Side, data: bytes) -> Iterable[Observation]:
        if data.startswith(b"!"):
            while True:
                pass
        return super().data(sender, data)


class Prints(Echo):
    def data(self, sender: Side, data: bytes) -> Iterable[Observation]:
        print("this stands among no answers")
        return super().data(sender, data)


class Hoards(Echo):
    """Understands nothing and claims nothing."""

    def data(self, sender: Side, data: bytes) -> Iterable[Observation]:
        return []


class Greedy(Echo):
    """Takes all memory there is."""

    def data(self, sender: Side, data: bytes) -> Iterable[Observation]:
        return [Observation("call", "client", (str(len(bytes(1 << 40))),))]


class Endless(Echo):
    def data(self, sender: Side, data: bytes) -> Iterator[Observation]:
        for _ in itertools.count():
            yield Observation("call", "client", ("endless" * 1000,))


def nonsense(what: object) -> type[Echo]:
    class Nonsense(Echo):
        def data(self, sender: Side, data: bytes) -> Iterable[Observation]:
            return cast(Iterable[Observation], what)

    return Nonsense


NoList = nonsense(17)
NoObservation = nonsense(["read"])
NoOperation = nonsense([Observation("steal", "client")])
NoSide = nonsense([Observation("read", cast(Side, "left"))])
Negative = nonsense([Observation("read", "server", values=-1)])
NoNumber = nonsense([Observation("read", "server", values=cast(int, "many"))])
Huge = nonsense([Observation("read", "server", values=1 << 70)])
NotItsBytes = nonsense([Observation("read", "server", client_bytes=1 << 20)])
TooManyNames = nonsense([Observation("read", "server", names=tuple(map(str, range(300))))])


class Sleeps(Echo):
    """Answers nothing that begins with ``!``, and uses no processor either."""

    name: ClassVar[str] = "sleeps"
    tcp_ports: ClassVar[tuple[int, ...]] = (4001,)
    udp_ports: ClassVar[tuple[int, ...]] = ()

    def data(self, sender: Side, data: bytes) -> Iterable[Observation]:
        if data.startswith(b"!"):
            threading.Event().wait()
        return super().data(sender, data)


class Fails(Raises):
    """Raises, on a port of its own."""

    name: ClassVar[str] = "fails"
    tcp_ports: ClassVar[tuple[int, ...]] = (4002,)
    udp_ports: ClassVar[tuple[int, ...]] = ()
