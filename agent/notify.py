"""What systemd wants to hear of a service of ``Type=notify``: ready, reloading, stopping, alive (sd_notify(3)).

One datagram of lines to the socket that ``NOTIFY_SOCKET`` names; outside systemd there is none, and nothing is said.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """The socket of the service manager, if there is one."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        said = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for the null byte of an abstract address (sd_notify(3)).
        self._address = f"\0{said[1:]}" if said.startswith("@") else said
        own = environment.get("WATCHDOG_PID")
        microseconds = environment.get("WATCHDOG_USEC", "")
        mine = own is None or own == str(os.getpid())
        self.watchdog_s = int(microseconds) / 1e6 if mine and microseconds.isdigit() and int(microseconds) else None
        """How long the manager waits for a sign of life before it restarts the service; None if it does not."""

    def say(self, *lines: str) -> None:
        """Send the lines; a manager that is gone is no reason to stop."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            out.sendto("\n".join(lines).encode(), self._address)
