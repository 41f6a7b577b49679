"""A share of a core for a process, so that there is room on a small machine for a second one like it.

A control group of the kernel (cgroups(7)) bounds the processor time of what is in it: version 2 by ``cpu.max``, version 1 by
``cpu.cfs_quota_us``. Making one needs root; where that cannot be had, nothing is bounded, and who asks is told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PERIOD_US: Final = 10_000
"""The share is kept to in every such period: no pause is longer."""

_TWO: Final = Path("/sys/fs/cgroup")
_ONE: Final = Path("/sys/fs/cgroup/cpu")


@contextmanager
def shares(pids: list[int], share: float) -> Iterator[bool]:
    """Each process has at most ``share`` of a core while this lasts; False if this machine does not allow it."""
    made: list[Path] = []
    try:
        try:
            for pid in pids:
                made.append(_group(pid, int(share * PERIOD_US)))
        except OSError:
            yield False
        else:
            yield True
    finally:
        for folder in made:
            with suppress(OSError):
                (folder.parent / "cgroup.procs").write_text(folder.name.rpartition("-")[2])
            with suppress(OSError):
                folder.rmdir()


def _group(pid: int, quota_us: int) -> Path:
    """A group with the one process in it."""
    two = (_TWO / "cgroup.controllers").exists()
    folder = (_TWO if two else _ONE) / f"hopwatch-bench-{os.getpid()}-{pid}"
    if two:
        with suppress(OSError):  # It may be on.
            (_TWO / "cgroup.subtree_control").write_text("+cpu")
    folder.mkdir()
    try:
        if two:
            (folder / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        else:
            (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
        (folder / "cgroup.procs").write_text(str(pid))
    except OSError:
        folder.rmdir()
        raise
    return folder
