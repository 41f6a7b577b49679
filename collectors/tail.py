"""Log files as they grow: which bytes come next, across rotation, truncation and the end of this process.

A file is known by its inode and by how it begins, so a renamed one is not read again and a new one under an old name is. Pieces
end where a record ends; a last line that is still being written waits. A piece that was named once can be read again exactly,
which is how a killed reader repeats what it may not have handed over.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

PIECE_BYTES_MAX: Final = 1 << 20
"""Bytes of a file that one turn takes."""

RECORD_BYTES_MAX: Final = 8 << 20
"""A record longer than this is passed over, and counted."""

FILES_MAX: Final = 4_096
"""Files of one pattern; of more, the oldest are not looked at, and counted."""

HEAD_BYTES: Final = 256

Cut = Callable[[bytes], int]
"""How many of the bytes are whole records."""


class TailError(Exception):
    """A log cannot be read; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a file, ``first`` to ``behind``; ``over``: part of a record that is too long."""

    inode: int
    first: int
    behind: int
    over: bool = False

    def state(self) -> list[Any]:  # Any: JSON values
        """As ``Piece(*state)`` takes it."""
        return [self.inode, self.first, self.behind, self.over]


class Found(NamedTuple):
    """A piece as it lies in a file: its bytes, and those at the beginning of the file."""

    path: Path
    content: bytes
    head: bytes


@dataclass(slots=True)
class _Place:
    offset: int = 0
    head: str = ""
    head_bytes: int = 0


class Tail:
    """The files of a pattern, or of several with commas between.

    ``truncated_total`` counts files that began anew in place, ``vanished_total`` those gone unread.
    """

    def __init__(self, pattern: str, cut: Callable[[Path], Cut | None]) -> None:
        self._pattern, self._cut = pattern, cut
        self._places: dict[int, _Place] = {}
        self._paths: dict[int, Path] = {}
        self._newest: int | None = None
        self._fresh = True
        self.truncated_total = self.vanished_total = self.refused_total = self.files_over_total = self.behind_bytes = 0

    def files(self) -> list[Path]:
        """The files there are, the one written to last at the end.

        Raises:
            TailError: there is a file that this process may not read.
        """
        found: list[tuple[int, str]] = []
        # A pattern is absolute, which Path.glob refuses.
        names = {name for pattern in self._pattern.split(",") for name in glob.glob(pattern)}  # noqa: PTH207
        for name in names:
            try:
                found.append((Path(name).stat().st_mtime_ns, name))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise TailError(f"{name}: {error.strerror}") from None
        found.sort()
        self.files_over_total += max(0, len(found) - FILES_MAX)
        return [Path(name) for _, name in found[-FILES_MAX:]]

    def pieces(self, most: int = 1) -> list[Piece]:
        """What comes next, of the oldest files that have anything, ``most`` of them; nothing changes but what is known of the files.

        Raises:
            TailError: there is a file that this process may not read.
        """
        present: set[int] = set()
        pieces: list[Piece] = []
        self.behind_bytes = self.refused_total = 0
        newest = None
        for path in self.files():
            try:
                with path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    inode, size = status.st_ino, status.st_size
                    present.add(inode)
                    newest, self._paths[inode] = inode, path
                    place = self._places.setdefault(inode, _Place())
                    if size < place.offset or _digest(file.read(place.head_bytes)) != place.head:
                        self.truncated_total += 1
                        # Written to last when it was looked at last: what came after is unknown.
                        self.vanished_total += self._fresh and inode == self._newest
                        place.offset, place.head, place.head_bytes = 0, "", 0
                    if size <= place.offset:
                        continue
                    cut = self._cut(path)
                    if cut is None:
                        self.refused_total += 1
                        continue
                    self.behind_bytes += size - place.offset
                    if len(pieces) < most:
                        file.seek(place.offset)
                        piece = _whole(inode, place.offset, file.read(PIECE_BYTES_MAX), cut)
                        if piece is None and size - place.offset > PIECE_BYTES_MAX:
                            file.seek(place.offset)
                            piece = _whole(inode, place.offset, file.read(RECORD_BYTES_MAX), cut)
                        pieces += [] if piece is None else [piece]
            except FileNotFoundError:
                continue
            except OSError as error:
                raise TailError(f"{path}: {error.strerror}") from None
        if self._fresh and self._newest is not None and self._newest not in present:
            self.vanished_total += 1
        self._fresh = False
        if newest is not None:
            self._newest = newest
        for inode in [inode for inode in self._places if inode not in present]:
            del self._places[inode]
            self._paths.pop(inode, None)
        return pieces

    def read(self, piece: Piece, head_bytes: int = 0) -> Found | None:
        """The bytes of a piece, and at most ``head_bytes`` of those before it; None if its file is gone."""
        path = self._paths.get(piece.inode)
        if path is None:
            self._paths |= dict(_inodes(self.files()))
            path = self._paths.get(piece.inode)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_ino != piece.inode:
                    # It was renamed since.
                    del self._paths[piece.inode]
                    return self.read(piece, head_bytes)
                begins = file.read(min(max(HEAD_BYTES, head_bytes), piece.behind))
                file.seek(piece.first)
                content = file.read(piece.behind - piece.first)
        except OSError:
            return None
        if len(content) != piece.behind - piece.first:
            return None
        # Now, as the name may be another file's when the piece is done.
        place, head = self._places.setdefault(piece.inode, _Place()), begins[:HEAD_BYTES]
        place.head, place.head_bytes = _digest(head), len(head)
        return Found(path, content, begins[: min(head_bytes, piece.first)])

    def done(self, piece: Piece) -> None:
        """The piece is read."""
        self._places.setdefault(piece.inode, _Place()).offset = piece.behind

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """Where every file is."""
        places = {str(inode): [place.offset, place.head, place.head_bytes] for inode, place in self._places.items()}
        return {"files": places, "newest": self._newest}

    def restore(self, state: dict[str, Any]) -> None:  # Any: JSON values
        """Go on where ``state`` was taken."""
        self._places = {int(inode): _Place(*place) for inode, place in state["files"].items()}
        self._newest, self._fresh = state["newest"], True


def _whole(inode: int, offset: int, content: bytes, cut: Cut) -> Piece | None:
    behind = cut(content)
    if behind:
        return Piece(inode, offset, offset + behind)
    return Piece(inode, offset, offset + len(content), over=True) if len(content) >= RECORD_BYTES_MAX else None


def _inodes(paths: list[Path]) -> Iterator[tuple[int, Path]]:
    for path in paths:
        # It may be gone since it was listed.
        with suppress(OSError):
            yield path.stat().st_ino, path


def _digest(head: bytes) -> str:
    return blake2b(head, digest_size=8).hexdigest() if head else ""
