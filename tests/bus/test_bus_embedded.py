"""The embedded log keeps order, survives a crash, stays under its bound and keeps no event that is finished."""

from pathlib import Path

import pytest

from hopwatch.bus import EVENT_BYTES_MAX, LogError, LogFull
from hopwatch.bus.embedded import EmbeddedLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def test_events_are_read_in_the_order_they_were_appended(path: Path) -> None:
    log = EmbeddedLog(path)
    assert log.append([b"a", b"b"]) == 2
    assert log.append([b"c"]) == 3
    assert log.read(0, 10) == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert log.read(1, 1) == [(1, b"b")]
    assert log.read(3, 10) == []


def test_committed_events_are_gone_and_their_offsets_are_never_given_again(path: Path) -> None:
    log = EmbeddedLog(path)
    log.append([b"a", b"b"])
    log.commit("engine", 2)
    assert log.read(0, 10) == []
    log.close()
    log = EmbeddedLog(path)
    assert log.committed("engine") == 2
    assert log.append([b"c"]) == 3
    assert log.read(0, 10) == [(2, b"c")]


def test_events_stay_until_every_consumer_has_committed_them(path: Path) -> None:
    log = EmbeddedLog(path)
    log.append([b"a", b"b"])
    log.commit("slow", 1)
    log.commit("engine", 2)
    assert log.read(0, 10) == [(1, b"b")]


def test_commit_never_moves_backwards(path: Path) -> None:
    log = EmbeddedLog(path)
    log.append([b"a", b"b"])
    log.commit("engine", 2)
    log.commit("engine", 1)
    assert log.committed("engine") == 2


def test_uncommitted_events_survive_a_process_that_never_closed(path: Path) -> None:
    log = EmbeddedLog(path)
    log.append([b"a"])
    del log._db  # The process ends without close().
    log._holder.close()
    assert EmbeddedLog(path).read(0, 10) == [(0, b"a")]


def test_full_log_refuses_the_append_whole_and_takes_it_after_a_commit(path: Path) -> None:
    log = EmbeddedLog(path, size_bytes_max=256 << 10)
    batch = [bytes(1_000)] * 50
    written = 0
    with pytest.raises(LogFull, match=r"log\.db: no room .* bound of 262144 bytes"):
        for _ in range(100):
            written = log.append(batch)
    assert written > 0
    assert log.end() == written
    assert len(log.read(0, 10_000)) == written
    log.commit("engine", written)
    assert log.append(batch) == written + len(batch)


def test_event_over_the_size_limit_is_refused(path: Path) -> None:
    log = EmbeddedLog(path)
    assert log.append([bytes(EVENT_BYTES_MAX)]) == 1
    with pytest.raises(LogError, match=f"{EVENT_BYTES_MAX + 1} bytes"):
        log.append([bytes(EVENT_BYTES_MAX + 1)])


def test_no_finished_event_can_be_read_from_the_files(path: Path) -> None:
    log = EmbeddedLog(path)
    log.append([b'{"account": "h.keller"}'] * 500)
    log.commit("engine", 500)
    log.close()
    for file in path.parent.iterdir():
        assert b"h.keller" not in file.read_bytes(), file


def test_only_the_owner_may_read_the_log(path: Path) -> None:
    EmbeddedLog(path)
    assert path.stat().st_mode & 0o077 == 0


def test_second_process_is_refused_in_one_line(path: Path) -> None:
    holder = EmbeddedLog(path)
    with pytest.raises(LogError, match="in use by another process"):
        EmbeddedLog(path)
    holder.close()
    EmbeddedLog(path).close()


def test_file_that_is_no_log_is_named(path: Path) -> None:
    path.write_bytes(b"no database, but long enough to be taken for one" * 50)
    with pytest.raises(LogError, match="not a hopwatch log"):
        EmbeddedLog(path)
