"""A command of hopwatch in a process of its own beside another one: begun again if it ends, ended by the end of its standard input.

The other process may end in any way, killed too: the pipe closes with it, and the command still finishes its work. So it is of its own
session, where no interrupt from the terminal reaches it, and ignores the SIGTERM that systemd sends to both.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final

from hopwatch.process import import_paths, say

AGAIN_S, AGAIN_S_MAX = 2.0, 60.0
"""After it ended by itself it is begun again: soon, and later each time while it does not stay."""

STOP_S: Final = 30.0
"""How long it may go on after the end of its standard input."""

NICENESS: Final = 5
"""Of such a command (setpriority, 2): where the processor is short, the process beside which it runs has it first."""


class Beside:
    """The command ``hopwatch COMMAND...``, as long as the process that made this lives or until ``stop``."""

    def __init__(self, name: str, command: list[str]) -> None:
        """``name`` is what it is called when it ends unasked."""
        self._name = name
        self._command = [sys.executable, "-m", "hopwatch.cli", *command]
        self._environment = {**os.environ, "PYTHONPATH": import_paths()}
        self._ended = threading.Event()
        self._process = self._begun()
        self._keeper = threading.Thread(target=self._keep, name=name, daemon=True)
        self._keeper.start()

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        return self._process.pid

    def stop(self, timeout_s: float = STOP_S) -> bool:
        """Ask it to end; whether it did so in time and says that nothing is left."""
        self._ended.set()
        self._keeper.join()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            return self._process.wait(timeout_s) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False

    def _begun(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, env=self._environment
        )

    def _keep(self) -> None:
        pause_s = AGAIN_S
        while not self._ended.wait(pause_s):
            status = self._process.poll()
            if status is None:
                pause_s = AGAIN_S
                continue
            pause_s = min(2 * pause_s, AGAIN_S_MAX)
            say(f"{self._name}: their process ended with status {status}, and is begun again")
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = self._begun()


@contextlib.contextmanager
def until_eof(stop: Callable[[], None]) -> Iterator[None]:
    """In the command: ``stop`` is called at the end of standard input; SIGTERM is ignored, and others go first."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(NICENESS)

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4_096):
            pass
        stop()

    threading.Thread(target=wait, name="standard input", daemon=True).start()
    yield
