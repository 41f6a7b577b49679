"""hopwatch's packet path (Rust): packets, or any other observations, become windows as lines of JSON."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

__version__: str

Event = TypeVar("Event")

class Sensor:
    """Packets in, events out. Reading releases the interpreter lock."""

    def __init__(
        self,
        plant: str,
        agent: str,
        *,
        tap: str | None = None,
        conversations: bool = False,
        verify_checksums: bool = False,
        vlans_equal: Sequence[str] = (),
        tap_of: Sequence[str] = (),
    ) -> None:
        """``vlans_equal``: pairs that are one network: ``120=220``, ``vni:7=vni:9``, ``gre:1=gre:2``.

        ``tap_of``: interfaces and their taps, ``eth3=cell-2``; what different taps show are different networks.

        Raises:
            ValueError: a pair that is none.
        """

    def slow_path(self, wishes: Sequence[tuple[str, str, int]]) -> SlowPath:
        """What no decoder reads on the ports asked for goes to plug-ins from now on: plug-in, ``tcp`` or ``udp``, port.

        Raises:
            ValueError: too many ports, or another transport.
        """

    def open_file(self, path: str) -> None:
        """Opens a pcap or pcapng file, plain, gzip or zstd; ``-`` is standard input.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no capture.
        """

    def open_files(self, paths: list[str]) -> None:
        """Opens several captures as one stream in the order of time.

        One that cannot be read is the error that ``read`` raises after the others were read.
        """

    def open_live(
        self,
        interfaces: list[str],
        *,
        bpf: str | None = None,
        snaplen: int = 262144,
        fanout: int | None = None,
        ring_bytes: int = 67108864,
    ) -> None:
        """Captures on interfaces (AF_PACKET). Sensors with the same ``fanout`` number share their flows, each whole.

        Raises:
            OSError: no such interface, no right to capture, or a filter that does not compile.
        """

    def read(self, packets_max: int = 65536, timeout_ms: int = 200) -> tuple[list[bytes], bool]:
        """Events since the last call, and whether the input has ended.

        Raises:
            OSError, ValueError: reading failed; every event before the failure was given by earlier calls.
        """

    def finish(self, events_max: int = ...) -> list[bytes]:
        """Ends all windows and gives what was open; with ``events_max`` about so many events, to be called until there are none."""

    def measure(self, expected: list[str] = ...) -> None:
        """Measures the capture from now on; hosts of the expected networks should be seen.

        Raises:
            ValueError: not a network such as 10.20.0.0/22.
        """

    def measured(self) -> bytes:
        """What was measured, as one JSON object; of connections, those that have ended."""

    def conversations(self) -> list[bytes]:
        """One line per conversation ended since the last call, if asked for."""

    def counters(self) -> dict[str, int]: ...
    def stop(self) -> None: ...

class SlowPath:
    """What plug-ins read (docs/plugins.md), in windows of its own."""

    def take(self, timeout_ms: int = 0) -> list[tuple[int, str, str, str | None, bytes | None, int] | None]:
        """Items to be answered: connection, plug-in, ``data``, ``gap`` or ``close``, sender, bytes, or how many are missing.

        None is answered with None. The same items are given until they are answered.
        """

    def answer(self, answers: Sequence[Sequence[tuple[str, str, Sequence[str], int, int, int, int, int]] | str | None]) -> None:
        """One answer for each item: operation, side that the data comes from, names, rows, values, messages, bytes of the client and
        of the server; a text says why nothing can be told, ``""`` that the bytes are not the plug-in's protocol."""

    def forsake(self, plugin: str, why: str) -> None:
        """A plug-in is not asked any more about what it reads now."""

    def events(self) -> list[bytes]: ...
    def counters(self) -> dict[str, int]: ...

class Windows:
    """The same windows for sources that are not packets. Times are nanoseconds since the Unix epoch."""

    def __init__(self, plant: str, agent: str) -> None: ...
    def open(
        self,
        client: tuple[str, int],
        server: tuple[str, int],
        time_ns: int,
        *,
        protocol: str | None = None,
        depth: str = "server-log",
        seen_by: str = "server-log",
        transport: str = "tcp",
        opened_by: str | None = None,
        context: str | None = None,
    ) -> int: ...
    def identify(
        self,
        connection: int,
        time_ns: int,
        *,
        account: str | None = None,
        role: str | None = None,
        application: str | None = None,
        account_from: str | None = None,
        on_behalf_of: str | None = None,
    ) -> None: ...
    def add(
        self,
        connection: int,
        time_ns: int,
        operation: str,
        data_from: str,
        *,
        names: Sequence[str] = (),
        columns: Sequence[str] = (),
        statement: str | None = None,
        rows: int = 0,
        values: int = 0,
        messages: int = 0,
        bytes: int = 0,
        bytes_back: int = 0,
        marks: Sequence[str] = (),
    ) -> None: ...
    def describe(
        self,
        connection: int,
        time_ns: int,
        *,
        transport: str | None = None,
        cipher: str | None = None,
        policy: str | None = None,
        authentication: str | None = None,
        joined_late: bool = False,
        one_sided: bool = False,
        encrypted: bool = False,
    ) -> None:
        """How the wire is protected, and in which condition the connection was seen."""

    def named(self, connection: int, time_ns: int, name: str, by: str) -> None:
        """A name that the client used for the server; ``by``: ``sni``, ``http`` or ``opcua``."""

    def asked(self, connection: int, time_ns: int, name: str, port: int, by: str) -> None:
        """The destination that the client asks a relay for from now on; ``by``: ``connect`` or ``absolute-form``."""

    def answered(self, client: str, address: str, name: str, time_ns: int, ttl_s: int) -> None:
        """A DNS answer: ``client`` was told that ``name`` has ``address``; connections opened later bear the name."""

    def uncounted(self, connection: int, time_ns: int, operation: str, data_from: str) -> None:
        """Something moved that could not be counted: the window of it is ``lossy``."""

    def estimated(self, connection: int, time_ns: int, operation: str, data_from: str) -> None:
        """Amounts that are near the truth, not counted at its source: the window of them is ``estimated``."""

    def told(self, connection: int) -> list[Told]:
        """Ends the open windows of a connection that goes on, and says what its flows have counted."""

    def go_on(self, connection: int, time_ns: int, told: Sequence[Told]) -> None:
        """Goes on with what ``told`` gave for a connection that was just opened as it was then: the ids are the same."""

    def close(self, connection: int, time_ns: int) -> None: ...
    def advance(self, now_ns: int) -> None: ...
    def finish(self) -> None: ...
    def take(self) -> list[bytes]: ...

Told = tuple[str, str, str | None, str | None, str | None, str | None, int, Sequence[int]]
"""Operation, side, account, role, application, whence the account is known; rows; sequence, values, messages, bytes and bytes back."""

class Lines(Generic[Event]):
    """``read`` for a stream of lines: windows that say what others of their kind said are made of those, and share their parts.

    Whatever is not plainly so is left to ``read``; the event is the same. ``window`` is the type of the events that are remembered;
    its ``mark`` is one object for all windows that differ in client, identities, times and amounts alone.
    """

    def __init__(self, read: Callable[[bytes | str], Event], window: type) -> None: ...
    def __call__(self, line: bytes | str) -> Event: ...
    def counters(self) -> dict[str, int]:
        """How many lines were read ``again`` by what was known, how many ``kinds`` and ``parts`` are known, and what was forgotten."""

class Read:
    """One statement, without its literals.

    ``effect``: what it changes in its session: ``role``, ``path``, ``declare``, ``fetch``, ``prepare`` or ``execute``, and its name.
    ``replaces``: a row may take another's place, which MySQL counts as two.
    """

    fingerprint: str
    operation: str
    data_from: str
    names: list[str]
    columns: list[str]
    marks: list[str]
    readable: bool
    server_side: bool
    effect: tuple[str, str | None] | None
    local: bool
    replaces: bool

def read_sql(text: bytes, *, whole: bool = True, dialect: str = "postgresql", database: str | None = None) -> list[Read]:
    """The statements of a text in PostgreSQL's SQL, ``mysql``'s, ``oracle``'s or ``transact-sql``, read as the wire's decoders do.

    ``database``: where names are that say no schema themselves.

    Raises:
        ValueError: another dialect.
    """

def read_request(method: str, target: str, *, status: int = 0) -> tuple[str, str, str, list[str], str | None, int | None]:
    """What an HTTP request moves, as somebody's log has it.

    Operation, side of the data, object, marks (no query, no token, no user), and host and port if the target names them.
    """
