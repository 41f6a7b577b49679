"""A stand-in for an Oracle server: as much of TNS and TTC as a real client needs to log in, run statements and fetch rows.

It knows no SQL: `Server.answers` maps a text to what it returns. Its side of the conversation is only as right as the client
that accepts it: python-oracledb reads every byte of an answer and fails on the first that stands wrong.
"""

import hashlib
import secrets
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

CONNECT, ACCEPT, REFUSE, REDIRECT, DATA, RESEND, MARKER = 1, 2, 4, 5, 6, 11, 12
VARCHAR, NUMBER, LONG, ROWID, DATE, RAW, CLOB, CURSOR = 1, 2, 8, 11, 12, 23, 112, 102
DEFINE, EXECUTE, FETCH = 0x10, 0x20, 0x40
END_OF_RESPONSE = 0x2000
NO_DATA = 1403


@dataclass
class Column:
    name: str
    kind: int
    size: int = 100


@dataclass
class Result:
    """Rows, a number of changed rows, or an error; `repeats`: values equal to those of the row before are not sent."""

    columns: list[Column] = field(default_factory=list)
    rows: list[tuple[object, ...]] = field(default_factory=list)
    changed: int = 0
    error: int = 0
    repeats: bool = False
    breaks: bool = False
    """The error comes behind markers."""


def ub(number: int) -> bytes:
    """A number in the universal form."""
    if number == 0:
        return b"\0"
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    width = {1: 1, 2: 2, 3: 4, 4: 4}.get(len(raw), 8)
    return bytes([width]) + number.to_bytes(width, "big")


def clr(raw: bytes) -> bytes:
    """Bytes behind their length, in pieces if there are many."""
    if len(raw) <= 252:
        return bytes([len(raw)]) + raw
    pieces = [raw[at : at + 1000] for at in range(0, len(raw), 1000)]
    return b"\xfe" + b"".join(ub(len(piece)) + piece for piece in pieces) + b"\0"


def long(raw: bytes) -> bytes:
    return ub(len(raw)) + (clr(raw) if raw else b"")


def number(value: int) -> bytes:
    """A positive integer as Oracle stores it: an exponent, then digits of base 100, each one more than it is."""
    if value == 0:
        return b"\x80"
    digits = []
    while value:
        value, digit = divmod(value, 100)
        digits.append(digit + 1)
    exponent = len(digits)
    while digits[0] == 1:
        digits.pop(0)
    return bytes([0xC0 + exponent, *reversed(digits)])


class Read:
    """What a client says, from the front."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def take(self, n: int) -> bytes:
        taken, self.raw = self.raw[:n], self.raw[n:]
        return taken

    def u8(self) -> int:
        return self.take(1)[0]

    def ub(self) -> int:
        return int.from_bytes(self.take(self.u8()), "big")

    def clr(self) -> bytes:
        length = self.u8()
        if length != 0xFE:
            return self.take(length)
        whole = b""
        while length := self.ub():
            whole += self.take(length)
        return whole

    def long(self) -> bytes:
        return self.clr() if self.ub() else b""


def aes(key: bytes, raw: bytes, encrypt: bool) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CBC(bytes(16)))
    return (cipher.encryptor() if encrypt else cipher.decryptor()).update(raw)


@dataclass
class Server:
    answers: dict[str, Result]
    password: str
    fields: int = 12
    """Version of the messages' fields: 12 is 19.1, 24 is 23.4."""
    version: int = 318
    """Of the network layer; from 319 on answers say where they end, and a login is one message."""
    refuse: int = 0
    redirect: str | None = None
    resend: bool = False
    unit: int = 8192
    address: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.listener = socket.create_server((self.address, 0))
        self.port: int = self.listener.getsockname()[1]
        self.failures: list[BaseException] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        try:
            if self.tls is not None:
                client = self.tls.wrap_socket(client, server_side=True)
            with client:
                Session(self, client).run()
        except (ConnectionError, EOFError):
            pass
        except BaseException as failure:
            self.failures.append(failure)

    def close(self) -> None:
        self.listener.close()


class Session:
    def __init__(self, server: Server, client: socket.socket) -> None:
        self.server, self.client = server, client
        self.wide = False
        self.cursors: dict[int, tuple[Result, int]] = {}
        self.fields = server.fields
        self.key = b""

    # ---- packets

    def exactly(self, n: int) -> bytes:
        raw = b""
        while len(raw) < n:
            more = self.client.recv(n - len(raw))
            if not more:
                raise EOFError
            raw += more
        return raw

    def packet(self) -> tuple[int, int, bytes]:
        """Type, flags of data, body."""
        head = self.exactly(8)
        length = struct.unpack(">I" if self.wide else ">H", head[: 4 if self.wide else 2])[0]
        body = self.exactly(length - 8)
        if head[4] == DATA:
            return DATA, struct.unpack(">H", body[:2])[0], body[2:]
        return head[4], 0, body

    def send(self, kind: int, body: bytes) -> None:
        length = struct.pack(">I", len(body) + 8) if self.wide else struct.pack(">HH", len(body) + 8, 0)
        self.client.sendall(length + bytes([kind, 0, 0, 0]) + body)

    def data(self, body: bytes, ends: bool = True) -> None:
        """In packets of a unit each; the last one says that it is."""
        room = self.server.unit - 10
        pieces = [body[at : at + room] for at in range(0, len(body), room)]
        for at, piece in enumerate(pieces):
            last = ends and at == len(pieces) - 1 and self.server.version >= 319
            self.send(DATA, struct.pack(">H", END_OF_RESPONSE if last else 0) + piece)

    def answer(self, body: bytes) -> None:
        self.data(body + (b"\x1d" if self.server.version >= 319 else b""))

    # ---- the session

    def run(self) -> None:
        self.connects()
        while True:
            kind, flags, body = self.packet()
            if kind != DATA or flags & 0x40:
                if kind == DATA:
                    return
                continue
            more = body
            while len(more) == self.server.unit - 10:
                more = self.packet()[2]
                body += more
            if body[0] == 1:
                self.answer(self.protocol())
            elif body[0] == 2:
                self.agree(body)
                self.answer(b"\x02\0\0")
            elif body[0] == 34:
                # The login within is encoded as of 19.1.
                types = body.index(b"\x02", 8)
                self.agree(body[types:])
                self.fields, fields = 13, self.fields
                login = Read(body[body.index(b"\x03\x76") :])
                login.take(3)
                self.fields = fields
                self.answer(self.protocol() + b"\x02\0\0" + self.session_key(login))
            elif not self.call(Read(body)):
                return

    def connects(self) -> None:
        for turn in range(2):
            kind, _, body = self.packet()
            assert kind == CONNECT, kind
            length, offset = struct.unpack(">HH", body[16:20])
            descriptor = body[offset - 8 : offset - 8 + length]
            if not descriptor:
                descriptor = self.packet()[2]
            assert len(descriptor) == length
            if turn == 0 and self.server.resend:
                self.send(RESEND, b"")
                continue
            break
        if self.server.refuse:
            text = (
                f"(DESCRIPTION=(TMP=)(VSNNUM=318767104)(ERR={self.server.refuse})(ERROR_STACK=(ERROR=(CODE={self.server.refuse})(EMFI=4))))"
            )
            self.send(REFUSE, struct.pack(">BBH", 4, 0, len(text)) + text.encode())
            raise EOFError
        if self.server.redirect:
            said = self.server.redirect.encode() + b"\0" + descriptor
            self.send(REDIRECT, struct.pack(">H", len(said)))
            self.send(DATA, b"\0\0" + said)
            raise EOFError
        version = self.server.version
        body = struct.pack(">HHHHHHHBB", version, 0, self.server.unit, 0xFFFF, 1, 0, 45, 0x04, 0x04) + bytes(8)
        body += struct.pack(">I", self.server.unit) + bytes(5)
        body += struct.pack(">I", 0x1200_0000 if version >= 319 else 0) + bytes(8)
        self.send(ACCEPT, body)
        self.wide = version >= 315

    def capabilities(self) -> bytes:
        capabilities = bytearray(46)
        capabilities[7] = self.server.fields
        capabilities[37] = 0x20
        return bytes(capabilities)

    def protocol(self) -> bytes:
        transform = bytes(9) + struct.pack(">H", 2000)
        runtime = bytes([2, 0, 0, 0, 0, 0, 4])
        said = b"\x01\x06\0x86_64/Linux 2.4.xx\0" + struct.pack("<HBH", 873, 1, 0)
        return said + struct.pack(">H", len(transform)) + transform + clr(self.capabilities()) + clr(runtime)

    def agree(self, types: bytes) -> None:
        self.fields = min(self.server.fields, types[7 + 7])

    def end(self, error: int = 0, rows: int = 0, cursor: int = 0) -> bytes:
        """The record that ends an answer."""
        said = b"\x04" + ub(0) + ub(0) + ub(min(rows, 2**32 - 1)) + ub(error if error < 65536 else 0) + ub(0) + ub(0) + ub(cursor) + ub(0)
        said += bytes(6) + ub(0) + ub(0) + b"\0" + ub(0) + ub(0) + ub(0) + b"\0\0" + ub(0) + ub(0) + ub(0)
        said += ub(0) + ub(0) + ub(0) + ub(error) + ub(rows)
        if self.fields >= 14:
            said += ub(0) + ub(0)
        if error:
            said += clr(f"ORA-{error:05}: what the server says\n".encode())
        return said

    def head(self, read: Read) -> tuple[int, int]:
        kind, function, _ = read.u8(), read.u8(), read.u8()
        if self.fields >= 18:
            read.ub()
        return kind, function

    def call(self, read: Read) -> bool:
        kind, function = self.head(read)
        while kind == 17:
            self.piggyback(function, read)
            kind, function = self.head(read)
        assert kind == 3, kind
        if function == 0x76:
            self.answer(self.session_key(read))
        elif function == 0x73:
            self.authenticate(read)
        elif function == 0x5E:
            self.execute(read)
        elif function in (4, 0x4E):
            cursor, rows = read.ub(), read.ub()
            result, _ = self.cursors[cursor]
            self.cursors[cursor] = (result, 0)
            if function == 0x4E:
                self.answer(self.rows_of(cursor, rows, False))
            else:
                self.answer(self.parameters() + self.end(result.error, result.changed, cursor))
        elif function == 5:
            self.answer(self.rows_of(read.ub(), read.ub(), False))
        elif function == 0x60:
            self.lob(read)
        else:
            self.answer(b"\x09" + ub(0) + ub(0))
            return function != 9
        return True

    def piggyback(self, function: int, read: Read) -> None:
        if function == 0x69:
            read.u8()
            for _ in range(read.ub()):
                self.cursors.pop(read.ub(), None)
        elif function == 0x87:
            read.take(2)
            read.ub()
            says = []
            for _ in range(3):
                pointer, length = read.u8(), read.ub()
                says.append(pointer and length)
            read.u8(), read.ub(), read.u8(), read.ub()
            pointer, length = read.u8(), read.ub()
            says.append(pointer and length)
            for _ in range(2):
                read.u8(), read.ub()
            pointer, length = read.u8(), read.ub()
            says.append(pointer and length)
            for said in says:
                if said:
                    read.clr()
        elif function == 0xB0:
            read.ub()
        else:
            raise AssertionError(f"piggyback {function}")

    # ---- the login (the verifier of 11g: SHA-1 of password and salt)

    def pairs(self, pairs: dict[str, str], flags: dict[str, int]) -> bytes:
        said = b"\x08" + ub(len(pairs))
        for name, value in pairs.items():
            said += long(name.encode()) + long(value.encode()) + ub(flags.get(name, 0))
        return said

    def session_key(self, read: Read) -> bytes:
        salt = secrets.token_bytes(10)
        self.hash = hashlib.sha1(self.server.password.encode() + salt).digest() + bytes(4)
        self.part = secrets.token_bytes(48)
        said = {"AUTH_SESSKEY": aes(self.hash, self.part, True).hex().upper(), "AUTH_VFR_DATA": salt.hex().upper()}
        return self.pairs(said, {"AUTH_VFR_DATA": 0xB152}) + self.end()

    def authenticate(self, read: Read) -> None:
        has_user, length = read.u8(), read.ub()
        read.ub(), read.u8()
        pairs = read.ub()
        read.take(2)
        if has_user and length:
            read.clr()
        said = {}
        for _ in range(pairs):
            name, value = read.long(), read.long()
            said[name.decode()] = value.decode()
            read.ub()
        theirs = aes(self.hash, bytes.fromhex(said["AUTH_SESSKEY"]), False)
        mixed = bytes(a ^ b for a, b in zip(self.part[16:40], theirs[16:40], strict=True))
        self.key = (hashlib.md5(mixed[:16]).digest() + hashlib.md5(mixed[16:]).digest())[:24]
        password = aes(self.key, bytes.fromhex(said["AUTH_PASSWORD"]), False)[16:]
        if not password.startswith(self.server.password.encode()):
            self.error_behind_markers(1017)
            return
        response = aes(self.key, secrets.token_bytes(16) + b"SERVER_TO_CLIENT" + bytes([16]) * 16, True).hex().upper()
        told = {"AUTH_VERSION_NO": "318767104", "AUTH_SESSION_ID": "124", "AUTH_SERIAL_NUM": "1369", "AUTH_SVR_RESPONSE": response}
        self.answer(self.pairs(told, {}) + self.end())

    def error_behind_markers(self, error: int) -> None:
        """The server breaks off, the client sees to it, then the error comes."""
        self.send(MARKER, b"\x01\0\x01")
        kind, _, body = self.packet()
        assert (kind, body[2]) == (MARKER, 2)
        self.send(MARKER, b"\x01\0\x02")
        self.answer(self.end(error))

    # ---- statements

    def execute(self, read: Read) -> None:
        options, cursor = read.ub(), read.ub()
        has_text, length = read.u8(), read.ub()
        read.u8(), read.ub(), read.take(2), read.ub()
        rows = read.ub()
        (
            read.ub(),
            read.u8(),
            read.ub(),
            read.take(5),
            read.u8(),
            read.ub(),
            read.ub(),
            read.take(3),
            read.ub(),
            read.u8(),
            read.ub(),
            read.ub(),
        )
        if self.fields >= 7:
            read.u8(), read.ub(), read.u8()
        if self.fields >= 8:
            read.u8(), read.ub(), read.u8(), read.ub(), read.u8()
        if self.fields >= 9:
            read.u8(), read.ub()
        if has_text:
            text = read.clr()
            assert len(text) == length
            result = self.server.answers[text.decode()]
            cursor = cursor or max(self.cursors, default=0) + 1
            self.cursors[cursor] = (result, 0)
        result, _ = self.cursors[cursor]
        if options & EXECUTE:
            self.cursors[cursor] = (result, 0)
        if result.breaks:
            self.error_behind_markers(result.error)
        elif result.error:
            self.answer(self.end(result.error))
        elif not result.columns:
            self.answer(self.parameters() + self.end(0, result.changed, cursor))
        else:
            lobs = any(column.kind == CLOB for column in result.columns)
            said = b"" if options & DEFINE or not has_text else self.describe(result.columns)
            if options & FETCH and (not lobs or options & DEFINE):
                self.answer(said + self.rows_of(cursor, rows, True))
            else:
                self.answer(said + self.parameters() + self.end(0, 0, cursor))

    def parameters(self) -> bytes:
        return b"\x08" + ub(6) + b"".join(map(ub, (1000, 0, 2, 0, 0, 0))) + ub(0) + ub(0) + ub(0)

    def column(self, column: Column) -> bytes:
        size = column.size
        said = bytes([column.kind, 0x80, 0, 0]) + ub(size) + ub(0) + ub(0) + ub(0) + ub(0) + ub(873)
        said += bytes([1 if column.kind in (VARCHAR, LONG, CLOB) else 0]) + ub(size)
        if self.fields >= 8:
            said += ub(0)
        said += bytes([1, len(column.name)]) + long(column.name.encode()) + long(b"MES") + ub(0) + ub(1) + ub(0)
        if self.fields >= 17:
            said += ub(0) + ub(0)
        if self.fields >= 20:
            said += ub(0)
        if self.fields >= 24:
            said += ub(0) + b"\0\0"
        return said

    def describe(self, columns: list[Column]) -> bytes:
        return b"\x10" + clr(bytes(23)) + self.description(columns)

    def description(self, columns: list[Column]) -> bytes:
        said = ub(sum(column.size for column in columns)) + ub(len(columns)) + b"\x4d" + b"".join(map(self.column, columns))
        return said + long(b"\x78\x7e\x0b\x16\x07\x01\x01") + ub(0) + ub(8168) + ub(2) + ub(2) + ub(0)

    def value(self, column: Column, value: object) -> bytes:
        if column.size == 0 and column.kind not in (LONG,):
            return b""
        if column.kind == CURSOR:
            assert isinstance(value, Result)
            cursor = max(self.cursors, default=0) + 1
            self.cursors[cursor] = (value, 0)
            return b"\x01" + self.description(value.columns) + ub(cursor)
        if value is None:
            return b"\0" + (ub(0) + ub(0) if column.kind == LONG else b"")
        if column.kind == NUMBER:
            assert isinstance(value, int)
            return clr(number(value))
        if column.kind == ROWID:
            return b"\x0e" + ub(73) + ub(4) + b"\0" + ub(133) + ub(2)
        raw = value if isinstance(value, bytes) else str(value).encode()
        if column.kind == CLOB:
            locator = bytes(40)
            return ub(40) + ub(len(raw)) + ub(8060) + clr(locator)
        return clr(raw) + (ub(0) + ub(0) if column.kind == LONG else b"")

    def rows_of(self, cursor: int, most: int, first: bool) -> bytes:
        result, at = self.cursors[cursor]
        rows = result.rows[at : at + most]
        said = b"\x06" + bytes([2]) + ub(1) + ub(0) + ub(most) + ub(0) + ub(0) + ub(0) if rows else b""
        before: tuple[object, ...] | None = None
        for row in rows:
            sent = list(range(len(row)))
            if result.repeats and before is not None:
                sent = [i for i in sent if row[i] != before[i]]
                vector = bytearray((len(row) + 7) // 8)
                for i in sent:
                    vector[i // 8] |= 1 << (i % 8)
                said += b"\x15" + ub(len(sent)) + bytes(vector)
            said += b"\x07" + b"".join(self.value(result.columns[i], row[i]) for i in sent)
            before = row
        at += len(rows)
        self.cursors[cursor] = (result, at)
        error = NO_DATA if len(rows) < most else 0
        return said + (self.parameters() if first else b"") + self.end(error, at, cursor)

    def lob(self, read: Read) -> None:
        """Every LOB holds the same text."""
        read.u8()
        length = read.ub()
        self.answer(b"\x0e" + clr("text of a LOB".encode("utf-16-be")) + b"\x08" + bytes(length) + ub(13) + self.end())
