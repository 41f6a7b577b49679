"""How good this machine's clock is, as its kernel knows it, and whether it was stepped.

Every window bears the times of this clock. The kernel is told by whatever keeps it (chrony, ntpd, PTP) how far off it may be
(adjtimex(2), RFC 5905 for the terms); nothing has to be asked over the network. A clock that is set while the agent runs shows as a
difference between the wall clock and the one that counts since the machine started.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any, Final

from hopwatch.events import Clock

TIME_ERROR: Final = 5
"""adjtimex(2): the clock is not synchronised."""

STA_UNSYNC, STA_NANO = 0x0040, 0x2000
STEP_S_MIN: Final = 0.05
"""Smaller differences are slewing: the kernel moves a clock by 0.5 ms in a second at most."""


class _Timex(ctypes.Structure):
    """struct timex (adjtimex(2)), with room for the fields at its end."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    )


def kernel_state() -> tuple[int, int, int, int]:
    """What adjtimex(2) returns, and its offset, maximum error (microseconds) and status; changes nothing.

    Raises:
        OSError: the kernel does not tell.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    said = _Timex()
    state = libc.adjtimex(ctypes.byref(said))
    if state < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return state, said.offset, said.maxerror, said.status


class ClockState:
    """The clock from one heartbeat to the next."""

    def __init__(
        self,
        kernel: Callable[[], tuple[int, int, int, int]] = kernel_state,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._kernel, self._wall, self._steady = kernel, wall, steady
        self._apart_s = wall() - steady()
        self.stepped_s = 0.0
        """The sum of all steps since the start: a heartbeat that is lost hides none."""

    def now(self) -> Clock:
        """The clock now; one whose kernel does not tell is not synchronised."""
        apart_s = self._wall() - self._steady()
        step_s = apart_s - self._apart_s
        self._apart_s = apart_s
        if abs(step_s) >= STEP_S_MIN:
            self.stepped_s += step_s
        said: dict[str, Any] = {"offset_s": 0.0, "error_s": 0.0, "synchronised": False}  # Any: fields of the event.
        try:
            state, offset, error_us, status = self._kernel()
        except OSError:
            pass
        else:
            said = {
                "offset_s": offset / (1e9 if status & STA_NANO else 1e6),
                "error_s": error_us / 1e6,
                "synchronised": state != TIME_ERROR and not status & STA_UNSYNC,
            }
        return Clock.model_validate(said | {"stepped_s": round(self.stepped_s, 6)})
