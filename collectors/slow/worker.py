"""The process that a slow-path decoder runs in: items come on standard input, answers go to standard output.

An item is connection, kind (``data``, ``gap``, ``close``), sender, and bytes or their number; a batch of them is one frame, and so
are its answers: for each what was observed, or why nothing can be, and the seconds that it took. Frames are a length of four bytes
and a body: ``marshal`` towards the decoder, JSON back, which the other side proves field by field.
"""

from __future__ import annotations

import importlib
import json
import marshal
import os
import resource
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO, Final

from collectors.slow import Decoder, NotThisProtocol, Observation

MEMORY_BYTES_MAX: Final = 1 << 30
"""Address space of the process; an allocation beyond raises MemoryError in the decoder."""

LENGTH: Final = struct.Struct(">I")

Item = tuple[int, str, str | None, bytes | int]


def load(spec: str) -> Callable[[], Decoder]:
    """The class that ``package.module:Class`` names."""
    module, _, name = spec.partition(":")
    made: Callable[[], Decoder] = getattr(importlib.import_module(module), name)
    return made


class Reader:
    """The connections of one decoder class."""

    def __init__(self, made: Callable[[], Decoder]) -> None:
        self._made = made
        self._open: dict[int, Decoder] = {}

    def answer(self, item: Item) -> list[list[Any]] | str | None:  # Any: JSON values
        """What was observed; a text says why nothing can be, empty for bytes that are not this protocol."""
        number, kind, sender, what = item
        if kind == "close":
            self._open.pop(number, None)
            return None
        try:
            if number not in self._open:
                self._open[number] = self._made()
            decoder = self._open[number]
            side: Any = sender  # It is a Side: the compiled module says so.
            said = decoder.data(side, what) if isinstance(what, bytes) else decoder.gap(side, what)
            return [_flat(one) for one in said]
        except NotThisProtocol:
            return ""
        except Exception as error:  # Whatever a plug-in raises is its own; its message may hold payload.
            return f"failed: {type(error).__name__}"


def _flat(one: Observation) -> list[Any]:  # Any: JSON values
    names = [str(name) for name in one.names]
    return [one.operation, one.data_from, names, one.rows, one.values, one.messages, one.client_bytes, one.server_bytes]


def serve(reader: Reader, source: BinaryIO, sink: BinaryIO) -> None:
    """Answers batches until the other side ends."""
    while len(head := source.read(LENGTH.size)) == LENGTH.size:
        answers = []
        for item in marshal.loads(source.read(LENGTH.unpack(head)[0])):
            began = time.perf_counter()
            said = reader.answer(item)
            answers.append([said, time.perf_counter() - began])
        _send(sink, answers)


def _send(sink: BinaryIO, value: object) -> None:
    body = json.dumps(value, separators=(",", ":"), default=str).encode()
    sink.write(LENGTH.pack(len(body)) + body)
    sink.flush()


def main(spec: str) -> None:
    """Loads the decoder, says what it is, and reads."""
    # What a plug-in prints must not stand among the answers.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    made: Any = load(spec)  # A class is its own description.
    _send(sink, {"name": made.name, "tcp": list(made.tcp_ports), "udp": list(made.udp_ports)})
    serve(Reader(made), sys.stdin.buffer, sink)


if __name__ == "__main__":
    main(sys.argv[1])
