"""Captures are read to their end or to where they break, and what was read is never lost."""

import pytest

from collectors.packets import CaptureError, from_files, from_interfaces, until


class FakeSensor:
    """Files are lists of batches; an exception in a list is raised when it is reached."""

    def __init__(self, files: dict[str, list[list[bytes] | Exception]]) -> None:
        self.files = files
        self.pending: list[list[bytes] | Exception] = []
        self.stopped = False
        self.open_windows = [b"open window", b"another"]

    def open_file(self, path: str) -> None:
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        self.pending = list(self.files[path])

    def open_files(self, paths: list[str]) -> None:
        self.pending = [batch for path in paths for batch in self.files[path]]

    def open_live(self, interfaces: list[str], *, bpf: str | None = None, snaplen: int = 262144) -> None:
        raise PermissionError(1, "Operation not permitted", interfaces[0])

    def read(self, packets_max: int = 1, timeout_ms: int = 0) -> tuple[list[bytes], bool]:
        if not self.pending:
            return [], True
        batch = self.pending.pop(0)
        if isinstance(batch, Exception):
            raise batch
        return batch, not self.pending

    def finish(self, events_max: int = 1) -> list[bytes]:
        return [self.open_windows.pop(0)] if self.open_windows else []

    def conversations(self) -> list[bytes]:
        return []

    def counters(self) -> dict[str, int]:
        return {}

    def stop(self) -> None:
        self.stopped = True


def test_files_are_one_stream_and_open_windows_come_last() -> None:
    sensor = FakeSensor({"a": [[b"1"], [b"2"]], "b": [[b"3"]]})
    assert list(from_files(sensor, ["a", "b"])) == [[b"1"], [b"2"], [b"3"], [b"open window"], [b"another"]]


def test_truncated_capture_yields_what_was_read_and_then_one_line() -> None:
    sensor = FakeSensor({"a": [[b"1"], ValueError("a: cut off\nin packet 2")]})
    read: list[list[bytes]] = []
    with pytest.raises(CaptureError, match=r"^a: cut off in packet 2$"):
        for batch in from_files(sensor, ["a"]):
            read.append(batch)
    assert read == [[b"1"], [b"open window"], [b"another"]]


def test_missing_file_is_one_line() -> None:
    with pytest.raises(CaptureError, match=r"^nowhere: No such file or directory$"):
        list(from_files(FakeSensor({}), ["nowhere"]))


def test_interface_without_permission_is_one_line() -> None:
    with pytest.raises(CaptureError, match=r"^eth9: Operation not permitted$"):
        list(from_interfaces(FakeSensor({}), ["eth9"], lambda: False))


def test_stopping_flushes_the_open_windows() -> None:
    sensor = FakeSensor({"a": [[b"1"], [b"2"]]})
    seen: list[list[bytes]] = []
    for batch in from_files(sensor, ["a"], lambda: bool(seen)):
        seen.append(batch)
    assert seen == [[b"1"], [b"open window"], [b"another"]]
    assert sensor.stopped


def test_duration_ends_when_the_clock_says_so() -> None:
    now = [100.0]
    over = until(5.0, lambda: now[0])
    now[0] = 104.9
    assert not over()
    now[0] = 105.0
    assert over()
    assert not until(None)()
