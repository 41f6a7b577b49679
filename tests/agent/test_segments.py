"""Segments over a one-way line: what is missing, torn, changed or foreign is named, and repeating an import changes nothing."""

import base64
import gzip
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agent.segments import CHAIN, Imports, SegmentWriter, Sign
from hopwatch.bus import LogError
from hopwatch.cli import main
from hopwatch.declared.sign import sign
from tests.agent.windows import stream


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


KEY, STRANGER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def signing(key: Ed25519PrivateKey = KEY) -> Sign:
    return lambda content: sign(content, pem(key))


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    public = base64.b64encode(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    Path("signers").write_text(f"tap-idmz ed25519 {public}\n")
    Path("key.pem").write_bytes(pem(KEY))


def writer(clock: Clock, folder: Path = Path("out"), key: Ed25519PrivateKey = KEY, size_bytes_max: int = 1 << 20) -> SegmentWriter:
    return SegmentWriter(folder, "north", "tap-idmz", signing(key), clock, size_bytes_max=size_bytes_max, segment_bytes_max=8_000)


def put(out: SegmentWriter, lines: Sequence[bytes], first: int = 0) -> list[int]:
    """Send all of them, and close; the tokens that were acknowledged."""
    for at, line in enumerate(lines, first):
        assert out.send("flow", "north", "", line, at)
    return out.close().acknowledged


def segments() -> list[Path]:
    return sorted(Path("out").glob("*.segment"))


def said(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    """Exit status and output of `hopwatch import --check`."""
    status = main(["import", "out", "--signers", "signers", "--check", *flags])
    streams = capsys.readouterr()
    return status, streams.out + streams.err


def test_an_event_is_acknowledged_when_its_segment_is_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    out = writer(clock)
    lines = stream(range(10), 2)
    for at, line in enumerate(lines[:3]):
        assert out.send("flow", "north", "", line, at)
    assert out.poll().acknowledged == [] and segments() == []
    clock.now_s = 10.0
    assert out.poll().acknowledged == [0, 1, 2] and len(segments()) == 1
    assert put(out, lines[3:], 3) == list(range(3, 20))
    assert said(capsys) == (0, f"{len(segments())} segments with 20 events verified, 0 known before\n")


def test_the_chain_goes_on_after_a_restart_and_after_the_segments_were_carried_away(capsys: pytest.CaptureFixture[str]) -> None:
    put(writer(Clock()), stream(range(3), 1))
    carried = [(path.name, path.read_bytes()) for path in segments()]
    for path in segments():
        path.unlink()
    put(writer(Clock()), stream(range(3, 6), 1))
    for name, content in carried:
        (Path("out") / name).write_bytes(content)
    assert said(capsys) == (0, "2 segments with 6 events verified, 0 known before\n")


def test_a_segment_whose_rename_was_cut_off_is_put_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    put(writer(Clock()), stream(range(3), 1))
    (path,) = segments()
    path.rename(path.with_name(f".{path.name}.ready"))
    assert segments() == []
    put(writer(Clock()), stream(range(3, 6), 1))
    assert said(capsys) == (0, "2 segments with 6 events verified, 0 known before\n")


def test_missing_segments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    put(writer(Clock()), stream(range(40), 1))
    first, second, third, *_ = segments()
    second.unlink()
    third.unlink()
    status, output = said(capsys)
    assert status == 1
    assert f"gap: {second.name}: missing: segment 2 to 3 of chain {first.name[:16]}" in output


@pytest.mark.parametrize("cut", [1, 500, 3000])
def test_a_torn_segment_is_named_and_nothing_of_it_is_used(cut: int, capsys: pytest.CaptureFixture[str]) -> None:
    put(writer(Clock()), stream(range(40), 1))
    path = segments()[1]
    content = path.read_bytes()
    path.write_bytes(content[: max(len(content) - cut, 10)])
    status, output = said(capsys)
    assert status == 1
    assert f"torn: {path.name}: " in output and f"gap: {path.name}: missing: segment 2 " in output


def changed(content: bytes) -> bytes:
    return content.replace(b'"plant":"north"', b'"plant":"south"', 1)


def foreign(content: bytes) -> bytes:
    head, _, body = content.split(b"\n", 3)[1:]
    signed = b"hopwatch segment 1\n" + head + b"\n"
    return signed + signing(STRANGER)(signed) + body


def other_events(content: bytes) -> bytes:
    return b"\n".join([*content.split(b"\n", 3)[:3], gzip.compress(b'{"kind":"flow"}\n')])


@pytest.mark.parametrize(
    "forge", [changed, foreign, other_events, lambda content: content[:-9] + b"\0" + content[-8:], lambda content: b"no segment"]
)
def test_a_changed_or_foreign_segment_is_named_and_nothing_of_it_is_used(
    forge: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    put(writer(Clock()), stream(range(40), 1))
    whole = len(segments())
    path = segments()[1]
    path.write_bytes(forge(path.read_bytes()))
    status, output = said(capsys)
    assert status == 1 and f"{whole - 1} segments" in output
    assert f"forged: {path.name}: " in output or f"torn: {path.name}: " in output


def test_a_segment_of_another_chain_does_not_follow(capsys: pytest.CaptureFixture[str]) -> None:
    """The owner of the key once wrote another second segment: both are signed, and only one follows the first."""
    put(writer(Clock()), stream(range(3), 1))
    record = (Path("out") / CHAIN).read_bytes()
    put(writer(Clock()), stream(range(3, 6), 1))
    other = json.loads(record)
    (Path("other")).mkdir()
    (Path("other") / CHAIN).write_text(json.dumps(other | {"previous": "0" * 64}))
    put(writer(Clock(), Path("other")), stream(range(3, 6), 1))
    second = segments()[1]
    second.write_bytes((Path("other") / second.name).read_bytes())
    status, output = said(capsys)
    assert status == 1
    assert f"forged: {second.name}: does not follow the segment before it" in output


def test_an_import_that_is_repeated_takes_only_what_is_new() -> None:
    put(writer(Clock()), stream(range(40), 1))
    late = segments()[2]
    content = late.read_bytes()
    late.unlink()

    def imported() -> tuple[list[int], Imports]:
        imports = Imports(Path("out"), Path("record.json"), lambda content, signature: None)
        numbers = []
        for segment in imports.new():
            numbers.append(segment.number)
            imports.imported(segment)
        return numbers, imports

    first, imports = imported()
    assert first == [1, 2, *range(4, len(segments()) + 2)] and len(imports.gaps()) == 1
    again, imports = imported()
    assert again == [] and imports.known_total == len(segments()) and len(imports.gaps()) == 1
    late.write_bytes(content)
    last, imports = imported()
    assert last == [3] and imports.gaps() == [] and imports.faults == []


def test_a_folder_nobody_empties_leaves_events_in_the_spool() -> None:
    clock = Clock()
    out = writer(clock)
    left = Path("out") / "left-by-others.segment"
    left.write_bytes(bytes(1 << 20))
    lines = stream(range(40), 1)
    taken = sum(out.send("flow", "north", "", line, at) for at, line in enumerate(lines))
    assert 0 < taken < len(lines) and out.poll().acknowledged == []
    assert out.trouble is not None and "nobody has carried away" in out.trouble
    left.unlink()
    clock.now_s = 60.0
    assert out.poll().acknowledged == list(range(taken)) and out.trouble is None


def test_a_folder_that_cannot_be_written_is_one_line() -> None:
    Path("out").write_text("")
    with pytest.raises(LogError, match="out: "):
        writer(Clock())


def test_what_is_missing_to_sign_or_verify_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    os.environ.pop("HOPWATCH_SIGNERS", None)
    assert main(["import", "out", "--check"]) == 2
    assert main(["import", "out", "--check", "--signers", "nowhere"]) == 2
    assert main(["agent", "-r", "x", "--plant", "north", "--export", "out"]) == 2
    assert main(["agent", "-r", "x", "--plant", "north", "--export", "out", "--signing-key", "signers"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4
    assert "--signers" in errors[0] and "nowhere" in errors[1] and "--signing-key" in errors[2] and "private key" in errors[3]
