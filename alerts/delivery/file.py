"""A file, a line an event, for a shipper that reads files: begun anew by size, and on the disk when it counts as delivered."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from alerts.delivery import Item, Plain, Refused, Retry
from alerts.delivery.rendering import Render
from alerts.settings import FileSettings


class File(Plain):
    """Lines at the end of one file; earlier files are FILE.1 (the latest) to FILE.N."""

    acknowledgement = "fsync(2): it is on the disk"

    def __init__(self, settings: FileSettings, render: Render, *, sync: Callable[[int], None] = os.fsync) -> None:
        self._settings, self._render, self._sync = settings, render, sync
        self._path: Path = settings.address

    def send(self, batch: Sequence[Item]) -> None:
        lines = [self._render(item.event) for item in batch]
        for done, line in enumerate(lines):
            if b"\n" in line:
                raise Refused("the format writes more than one line", done=done)
        try:
            self._append(b"".join(line + b"\n" for line in lines))
        except OSError as error:
            raise Retry(f"{self._path}: {error.strerror or error}") from None

    def _append(self, content: bytes) -> None:
        """All of it or nothing: half a line would be read as garbage.

        The file is opened each time, so that whoever moved it away gets no more of it, and locked, as a canary may come from
        another process.
        """
        with Path(f"{self._path}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._rotate(len(content))
            new = not self._path.exists()
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o640)
            try:
                before = _whole(descriptor)
                try:
                    left = memoryview(content)
                    while left:
                        left = left[os.write(descriptor, left) :]
                    self._sync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, before)
                    raise
            finally:
                os.close(descriptor)
            if new:
                self._sync_folder()

    def _rotate(self, more: int) -> None:
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if not size or size + more <= self._settings.bytes_max:
            return
        for number in range(self._settings.keep, 0, -1):
            earlier = self._numbered(number - 1)
            if earlier.exists():
                earlier.replace(self._numbered(number))
        if not self._settings.keep:
            self._path.unlink()
        self._sync_folder()

    def _numbered(self, number: int) -> Path:
        return Path(f"{self._path}.{number}") if number else self._path

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._sync(folder)
        finally:
            os.close(folder)


def _whole(descriptor: int) -> int:
    """Where the last whole line ends; half a line behind it, of a process that was killed, is cut off: its letter comes again."""
    size = os.fstat(descriptor).st_size
    end = size
    while end:
        start = max(0, end - 65_536)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)
    return end
