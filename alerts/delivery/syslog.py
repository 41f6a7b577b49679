"""Syslog: a message a letter, by UDP (RFC 5426), TCP with octet counting (RFC 6587, 3.4.1) or TLS (RFC 5425).

Syslog answers nothing. By UDP nobody knows what arrived. By TCP and TLS there is one answer to be had: who reads a connection to its
end closes it in turn, and who ends with bytes unread resets it (RFC 9293, 3.6; RFC 1122, 4.2.2.13). So each batch has a connection of
its own, which we end first; the batch counts as delivered when the receiver has closed its side without a reset, and is sent again
otherwise. What had been read by then arrives twice, recognisable by alert and revision. An acknowledgement of TCP alone would not do: a
receiver that is restarted loses what its machine had acknowledged (tested with rsyslog).
"""

from __future__ import annotations

import fcntl
import os
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


class Syslog(Plain):
    """One receiver."""

    batch_max = 500

    def __init__(self, settings: SyslogSettings, render: Render, *, clock: Callable[[], float] = time.monotonic) -> None:
        parts = urlsplit(settings.address)
        assert parts.hostname is not None and parts.port is not None, "the settings ask for both"
        self._host, self._port, self._scheme = parts.hostname, parts.port, parts.scheme
        self._settings, self._render, self._clock = settings, render, clock
        self._tls = None
        if self._scheme == "tls":
            self._tls = tls.context(settings.ca_file, settings.certificate_file, settings.key_file, settings.key_password)
        self._datagrams: socket.socket | None = None

    @property
    def acknowledgement(self) -> str:
        """What can be known."""
        if self._scheme == "udp":
            return "none: UDP cannot know whether anything arrived; look for the canary at the receiver"
        return "that it read the connection to its end; whether it kept the message, syslog does not say"

    def send(self, batch: Sequence[Item]) -> None:
        messages = [self._render(item.event) for item in batch]
        if self._scheme == "udp":
            self._send_datagrams(messages)
            return
        try:
            self._send_stream(b"".join(b"%d %b" % (len(message), message) for message in messages))
        except (OSError, ValueError) as error:
            raise Retry(_why(error)) from None

    def _send_datagrams(self, messages: list[bytes]) -> None:
        for done, message in enumerate(messages):
            if len(message) > DATAGRAM_BYTES_MAX:
                raise Refused(f"a message of {len(message)} bytes, and UDP takes at most {DATAGRAM_BYTES_MAX}: use TCP or TLS", done=done)
            try:
                if self._datagrams is None:
                    family, kind, number, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
                    self._datagrams = socket.socket(family, kind, number)
                    # Connected: an ICMP answer that nobody listens there comes back as an error.
                    self._datagrams.connect(address)
                self._datagrams.send(message)
            except OSError as error:
                self.close()
                raise Retry(_why(error), done=done) from None

    def _send_stream(self, content: bytes) -> None:
        with socket.create_connection((self._host, self._port), self._settings.timeout_s) as plain:
            if self._tls is None:
                plain.sendall(content)
                plain.shutdown(socket.SHUT_WR)
                self._closed(plain)
                return
            with self._tls.wrap_socket(plain, server_hostname=self._settings.server_name or self._host) as secure:
                secure.sendall(content)
                self._ended(secure)

    def _ended(self, secure: ssl.SSLSocket) -> None:
        """close_notify, and the receiver's end of the connection (RFC 8446, 6.1)."""
        try:
            secure.unwrap()
        except ssl.SSLEOFError:
            pass  # It closed and said nothing, as many do.
        except TimeoutError:
            self._unclosed(secure)
            return
        except ssl.SSLError:
            raise
        except OSError as error:
            if error.errno:
                raise
            # Without a number it is OpenSSL's word for an end without close_notify.
        _whole(secure)

    def _closed(self, peer: socket.socket) -> None:
        """Wait until the receiver ends its side; what it says until then matters to nobody."""
        until = self._clock() + self._settings.timeout_s
        try:
            while peer.recv(4096):
                if self._clock() > until:
                    raise TimeoutError
        except TimeoutError:
            self._unclosed(peer)
            return
        _whole(peer)

    def _unclosed(self, held: socket.socket) -> None:
        """A receiver that keeps its side open has the bytes at least on its machine, or not even that."""
        if _unacknowledged(held):
            raise TimeoutError(f"not acknowledged within {self._settings.timeout_s:g} s")
        self.remark = "its machine acknowledges the bytes, but nobody there ends the connection: whether they are read is not known"

    def close(self) -> None:
        if self._datagrams is not None:
            self._datagrams.close()
            self._datagrams = None


def _whole(ended: socket.socket) -> None:
    """Who has read everything acknowledges it with his end at the latest; who ends earlier, as one that refuses us, does not.

    Raises:
        OSError: he had not.
    """
    if code := ended.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, os.strerror(code))
    if _unacknowledged(ended):
        raise ConnectionError("it ended the connection before it had read everything; we, or our certificate, may not be let in")


def _unacknowledged(held: socket.socket) -> int:
    """Bytes its machine has not acknowledged (SIOCOUTQ, tcp(7))."""
    return int(struct.unpack("i", fcntl.ioctl(held.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return str(error) or "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return f"{type(error).__name__}: {error}"
