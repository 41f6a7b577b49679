"""Syslog: a message a letter, by UDP (RFC 5426), TCP with octet counting (RFC 6587, 3.4.1) or TLS (RFC 5425).

Syslog answers nothing. By UDP nobody knows what arrived. By TCP and TLS a letter counts as delivered when the receiver's machine has
acknowledged its bytes; whether the program there read them is not said. A receiver that ends with bytes unread resets the connection
(RFC 1122, 4.2.2.13): what was sent last is then sent again, and what had been read arrives twice, recognisable by its id.
"""

from __future__ import annotations

import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from alerts.delivery import Item, Plain, Refused, Retry, tls
from alerts.delivery.rendering import Render
from alerts.settings import SyslogSettings

DATAGRAM_BYTES_MAX: Final = 65_507
"""The longest datagram over IPv4 (RFC 768); a longer message is refused, and by TCP or TLS it fits."""

LOOK_S: Final = 0.02
GREETING_S: Final = 1.0
"""How long a new TLS connection is listened to: whether our certificate is accepted is said after the handshake (RFC 8446, 4.4.2.4)."""


class Syslog(Plain):
    """One receiver; the connection is kept, and made anew when it is gone."""

    def __init__(
        self,
        settings: SyslogSettings,
        render: Render,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(settings.address)
        assert parts.hostname is not None and parts.port is not None, "the settings ask for both"
        self._host, self._port, self._scheme = parts.hostname, parts.port, parts.scheme
        self._settings, self._render, self._clock, self._wait = settings, render, clock, wait
        self._tls = None
        if self._scheme == "tls":
            self._tls = tls.context(settings.ca_file, settings.certificate_file, settings.key_file, settings.key_password)
        self._socket: socket.socket | None = None
        self._last: list[bytes] = []
        self._lost: list[bytes] = []

    @property
    def acknowledgement(self) -> str:
        """What can be known."""
        if self._scheme == "udp":
            return "none: UDP cannot know whether anything arrived; look for the canary at the receiver"
        return "that of its machine (TCP); syslog itself answers nothing, so look for the canary once"

    def send(self, batch: Sequence[Item]) -> None:
        messages = [self._render(item.event) for item in batch]
        if self._scheme == "udp":
            self._datagrams(messages)
        else:
            self._look()
            self._stream([b"%d %s" % (len(message), message) for message in messages])

    def _datagrams(self, messages: list[bytes]) -> None:
        for done, message in enumerate(messages):
            if len(message) > DATAGRAM_BYTES_MAX:
                raise Refused(f"a message of {len(message)} bytes, and UDP takes at most {DATAGRAM_BYTES_MAX}: use TCP or TLS", done=done)
            try:
                if self._socket is None:
                    family, kind, number, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
                    self._socket = socket.socket(family, kind, number)
                    # Connected: an ICMP answer that nobody listens there comes back as an error.
                    self._socket.connect(address)
                self._socket.send(message)
            except OSError as error:
                self.close()
                raise Retry(_why(error), done=done) from None

    def _stream(self, frames: list[bytes]) -> None:
        frames = self._lost + frames
        try:
            peer = self._connected()
            # The time-out is for each: a receiver that reads slowly but steadily is not away.
            for frame in frames:
                peer.sendall(frame)
            self._acknowledged(peer)
        except (OSError, ValueError) as error:
            self.close()
            raise Retry(_why(error)) from None
        self._last, self._lost = frames, []

    def _connected(self) -> socket.socket:
        if self._socket is None:
            made = socket.create_connection((self._host, self._port), self._settings.timeout_s)
            try:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    made = self._tls.wrap_socket(made, server_hostname=self._settings.server_name or self._host)
            except BaseException:
                made.close()
                raise
            self._socket = made
            if self._tls is not None:
                select.select([made], [], [], min(GREETING_S, self._settings.timeout_s))
                self._look()
                if self._socket is None:
                    raise ConnectionError("it ended the connection after the handshake: our certificate may not be what it wants")
        return self._socket

    def _acknowledged(self, peer: socket.socket) -> None:
        """Wait until the peer's machine has acknowledged every byte (ioctl SIOCOUTQ, tcp(7))."""
        until = self._clock() + self._settings.timeout_s
        while struct.unpack("i", fcntl.ioctl(peer, termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
            if self._clock() > until:
                raise TimeoutError(f"not acknowledged within {self._settings.timeout_s:g} s")
            self._wait(LOOK_S)
        error = peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "the connection was reset")

    def idle(self) -> None:
        """Notice that the receiver is gone, and send again what it left unread."""
        self._look()
        if self._lost:
            self._stream([])

    def _look(self) -> None:
        if self._scheme == "udp" or self._socket is None:
            return
        try:
            self._socket.settimeout(0)
            try:
                # It says nothing that matters: a TLS ticket, a close. What is to be read is read away.
                while self._socket.recv(4096):
                    pass
            finally:
                self._socket.settimeout(self._settings.timeout_s)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            self._lost, self._last = self._last, []
        self._last = []  # Who closes in order has read everything.
        self.close()

    def close(self) -> None:
        if self._socket is None:
            return
        held, self._socket = self._socket, None
        try:
            if isinstance(held, ssl.SSLSocket):
                # close_notify, so that the receiver need not take the end for an attack (RFC 8446, 6.1); its own is not waited for.
                held.settimeout(0)
                held.unwrap()
        except (OSError, ValueError):
            pass
        finally:
            held.close()


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return f"{type(error).__name__}: {error}"
