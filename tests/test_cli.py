"""The command from its arguments to its exit status: one process, a sensor that replays events, no network."""

import io
import json
import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from collectors.packets import Sensor
from hopwatch.bus.embedded import EmbeddedLog
from hopwatch.cli import main
from hopwatch.events import Flow, Heartbeat, Loss, dump
from hopwatch.show import amounts, clean, size, span, violation
from hopwatch.store.embedded import EmbeddedStore
from hopwatch.terminal import LiveView

PLANT = """
plant: north
version: 3
owner: ot@example.com
approved: {by: h.keller, ticket: CHG-1, date: 2026-03-02}
review_by: 2026-09-02
timezone: Europe/Berlin
classes:
  production: {sensitivity: confidential, transit: any, keep_max: 2y}
zones:
  ops: {level: 3, nets: [10.20.0.0/24]}
  idmz: {level: 3.5, nets: [10.30.0.0/24]}
assets:
  db: {zone: ops, kind: postgresql, at: "10.20.0.21:5432"}
  mw: {zone: idmz, kind: middleware, at: 10.30.0.20}
data:
  orders: {class: production, in: [db], tables: [mes.orders]}
accounts:
  svc_mw: {kind: service, owner: integration, from: [mw], auth: scram-sha-256}
conduits:
  c: {from: ops, to: idmz, agent: tap, sees: decoded}
hops:
  extract: {who: svc_mw, from: db, to: mw, via: c, may: [select], what: [orders], limit: 1M rows / 1h, keep: 1d, why: test}
"""


def flow(number: int, account: str = "svc_mw", **fields: Any) -> bytes:  # Any: JSON values.
    second = f"2026-04-07T10:{number // 60 % 60:02d}:{number % 60:02d}"
    said = {
        "event_id": f"{number:032x}", "plant": "north", "agent": "tap", "connection": "c" * 32, "flow_id": f"{number:08x}" + "f" * 24,
        "sequence": 0, "start": second + "Z", "end": second + ".9Z", "source": {"address": "10.20.0.21", "port": 5432},
        "destination": {"address": "10.30.0.20", "port": 40000}, "opened_by": "destination", "protocol": "postgresql", "account": account,
        "account_from": "startup", "operation": "select", "depth": "decoded", "rows": 10, "bytes": 1000,
        "objects": [{"names": ["mes.orders"], "columns": ["id"], "rows": 10, "bytes": 1000}],
        "protection": {"transport": "none", "authentication": "scram-sha-256"},
    } | fields  # fmt: skip
    return dump(Flow.model_validate(said))


LOSS = dump(
    Loss(
        event_id="d" * 32, plant="north", agent="tap", stage="kernel", packets=120, start="2026-04-07T10:00:00Z", end="2026-04-07T10:00:01Z"
    )
)

Step = list[bytes] | Exception | Callable[[], None]


class Replay:
    """A sensor whose captures are lists: of events to hand over, exceptions to raise, things to do meanwhile."""

    def __init__(self, **captures: list[Step]) -> None:
        self.captures = captures
        self.pending: list[Step] = []
        self.read_total = 0
        self.vlans_equal: list[str] = []
        self.tap_of: list[str] = []

    def __call__(
        self,
        plant: str,
        agent: str,
        *,
        tap: str | None = None,
        conversations: bool = False,
        verify_checksums: bool = False,
        vlans_equal: Sequence[str] = (),
        tap_of: Sequence[str] = (),
    ) -> Sensor:
        self.vlans_equal, self.tap_of = list(vlans_equal), list(tap_of)
        return self

    def open_file(self, path: str) -> None:
        if path not in self.captures:
            raise FileNotFoundError(2, "No such file or directory", path)
        self.pending = list(self.captures[path])

    def open_files(self, paths: list[str]) -> None:
        self.pending = [step for path in paths for step in self.captures[path]]

    def open_live(self, interfaces: list[str], *, bpf: str | None = None, snaplen: int = 262144) -> None:
        raise PermissionError(1, "Operation not permitted", interfaces[0])

    def read(self, packets_max: int = 1, timeout_ms: int = 0) -> tuple[list[bytes], bool]:
        if not self.pending:
            return [], True
        step = self.pending.pop(0)
        if isinstance(step, Exception):
            raise step
        if callable(step):
            step()
            return [], False
        self.read_total += len(step)
        return step, not self.pending

    def finish(self, events_max: int = 0) -> list[bytes]:
        return []

    def conversations(self) -> list[bytes]:
        return [b'{"kind":"conversation","transport":"tcp","a":"10.0.0.1","a_port":1,"b":"10.0.0.2","b_port":2}']

    def counters(self) -> dict[str, int]:
        return {"packets": self.read_total, "bytes": 100 * self.read_total}

    def stop(self) -> None:
        self.pending = []


@pytest.fixture(autouse=True)
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("HOPWATCH_")]:
        monkeypatch.delenv(name)
    Path("plant.yaml").write_text(PLANT)
    return tmp_path


def watch(replay: Replay, *flags: str) -> int:
    return main(["watch", "-d", "plant.yaml", "-r", *replay.captures, "--at", "2026-04-07", *flags], sensors=replay)


def lines(text: str) -> list[dict[str, Any]]:  # Any: JSON values.
    return [json.loads(line) for line in text.splitlines()]


def test_declared_flows_end_with_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(Replay(a=[[flow(1), flow(2)]]), "--json") == 0
    assert [line["kind"] for line in lines(capsys.readouterr().out)] == ["flow", "flow", "summary"]


def test_json_carries_flows_findings_losses_and_the_summary_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(Replay(a=[[flow(1), LOSS], [flow(2, account="svc_report")]]), "--json", "--no-questions") == 1
    said = lines(capsys.readouterr().out)
    assert [line["kind"] for line in said] == ["flow", "loss", "flow", "finding", "summary"]
    assert said[-1]["windows"] == 2
    assert said[-1]["findings"] == {said[3]["verdict"]: 1}
    assert said[-1]["lost"] == {"packets": 120, "bytes": 0}


def test_plain_lines_show_the_violation_without_colour(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(Replay(a=[[flow(1, account="svc_report")]])) == 1
    text = capsys.readouterr().out
    assert "undeclared-account" in text
    assert "svc_report @ mw (10.30.0.20)\n" in text
    assert "nearest approved hop: extract (north v3, not committed)" in text
    assert "UNSIGNED" in text
    assert "\x1b" not in text


def test_store_answers_flows_findings_and_explain(capsys: pytest.CaptureFixture[str]) -> None:
    watch(Replay(a=[[flow(1), flow(2, account="svc_report")]]), "--store", "s.db", "--no-questions")
    capsys.readouterr()
    assert main(["flows", "--store", "s.db", "--json"]) == 0
    kept = lines(capsys.readouterr().out)
    assert [one["judgement"]["verdict"] for one in kept] == ["undeclared-account", kept[1]["judgement"]["verdict"]]
    assert main(["findings", "--store", "s.db", "--json"]) == 1
    (finding,) = lines(capsys.readouterr().out)
    assert main(["explain", finding["finding_id"][:10], "--store", "s.db"]) == 1
    explained = capsys.readouterr().out
    assert "differs in" in explained
    assert re.search(r"person:\w+ @ mw \(10\.30\.0\.20\)\n", explained)
    assert finding["client"] == "mw (10.30.0.20)"
    assert main(["explain", "00000000", "--store", "s.db"]) == 2  # Both events start so.
    assert "several ids" in capsys.readouterr().err
    assert main(["explain", kept[0]["event_id"], "--store", "s.db"]) == 0
    assert "10.20.0.21:5432 -> 10.30.0.20:40000" in capsys.readouterr().out


def test_what_a_statement_did_besides_is_stored_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    part = {"names": ["mes.orders"], "columns": ["id"], "rows": 10, "bytes": 1000}
    watch(Replay(a=[[flow(1, objects=[part | {"marks": ["to-file", "folded"]}])]]), "--store", "s.db")
    capsys.readouterr()
    assert main(["flows", "--store", "s.db", "--json"]) == 0
    (kept,) = lines(capsys.readouterr().out)
    assert kept["objects"][0]["marks"] == ["to-file", "folded"]
    assert main(["explain", kept["event_id"], "--store", "s.db"]) == 0
    assert re.search(r"  data    mes.orders \(id\): .*; to-file, folded\n", capsys.readouterr().out)


def test_a_line_of_flows_and_the_live_screen_show_the_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    monkeypatch.setattr("hopwatch.terminal.REFRESH_S", 0.0)
    monkeypatch.setattr("hopwatch.watching._view", lambda *_: LiveView(Console(file=out, force_terminal=True, width=200), "north"))
    watch(Replay(a=[[flow(1)], [flow(2, account="svc_report")]]), "--store", "s.db")
    before_findings = out.getvalue().split("undeclared-account")[0]
    assert "declared 1" in before_findings
    assert "declared\x1b[0m  10.20.0.21:5432" in before_findings.split("so far")[1]
    capsys.readouterr()
    main(["flows", "--store", "s.db"])
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["undeclared-account", "declared"]


def test_undeclared_account_rests_as_a_pseudonym_in_every_file(plant: Path) -> None:
    watch(Replay(a=[[flow(1), flow(2, account="h.mueller")]]), "--store", "s.db")
    for file in plant.glob("s.db*"):
        assert b"h.mueller" not in file.read_bytes(), file
    assert b"svc_mw" in Path("s.db").read_bytes()


def test_reading_a_capture_twice_adds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    replay = Replay(a=[[flow(1), flow(2, account="svc_report"), flow(3, account="svc_report")]])
    seen = []
    for _ in range(2):
        watch(replay, "--store", "s.db", "--no-questions")
        capsys.readouterr()
        main(["findings", "--store", "s.db", "--json"])
        main(["flows", "--store", "s.db", "--json"])
        seen.append([(one.get("windows"), one.get("event_id")) for one in lines(capsys.readouterr().out)])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 4


def test_truncated_capture_is_judged_up_to_the_cut_and_then_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        watch(
            Replay(a=[[flow(1, account="svc_report")], ValueError("a: cut off in packet 2")]), "--store", "s.db", "--json", "--no-questions"
        )
        == 1
    )
    said = capsys.readouterr()
    assert said.err == "hopwatch: a: cut off in packet 2\n"
    assert [line["kind"] for line in lines(said.out)] == ["flow", "finding", "summary"]
    assert main(["findings", "--store", "s.db"]) == 1


def test_full_store_is_one_line_and_the_next_run_stores_what_was_read(capsys: pytest.CaptureFixture[str]) -> None:
    batches: list[Step] = [[flow(number) for number in range(start, start + 100)] for start in range(0, 2_000, 100)]
    replay = Replay(a=batches)
    Path("hopwatch.toml").write_text("store_bytes_max = 524288\n")
    assert watch(replay, "--store", "s.db", "--json") == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "s.db: no room for more records" in said.err
    assert 0 < replay.read_total < 2_000
    Path("hopwatch.toml").unlink()
    assert watch(Replay(b=[[]]), "--store", "s.db", "--json") == 0
    capsys.readouterr()
    main(["flows", "--store", "s.db", "--json", "--limit", "5000"])
    assert len(lines(capsys.readouterr().out)) == replay.read_total


def test_full_log_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("hopwatch.toml").write_text("log_bytes_max = 65536\n")
    assert watch(Replay(a=[[flow(number) for number in range(500)]]), "--store", "s.db", "--json") == 0
    assert lines(capsys.readouterr().out)[-1]["windows"] == 500


def test_what_an_interrupted_run_left_in_the_log_is_judged_first(capsys: pytest.CaptureFixture[str]) -> None:
    log = EmbeddedLog("s.db.log")
    log.append([flow(1, account="svc_report")])
    log.close()
    assert watch(Replay(a=[[flow(2)]]), "--store", "s.db", "--json") == 1
    assert [line["event_id"][-1] for line in lines(capsys.readouterr().out) if line["kind"] == "flow"] == ["1", "2"]


def spent(store: str = "s.db") -> dict[str, Any]:  # Any: JSON values.
    kept = EmbeddedStore(store, create=False)
    state = kept.state("engine/north")
    kept.close()
    assert state is not None
    kept_by = json.loads(state)["detectors"]["verdict"]
    return dict(kept_by.get("verdict", kept_by)["budgets"])


def told(capsys: pytest.CaptureFixture[str], store: str = "s.db") -> list[tuple[object, ...]]:
    """Findings and judged flows, as the store has them."""
    capsys.readouterr()
    main(["findings", "--store", store, "--json"])
    main(["flows", "--store", store, "--json", "--limit", "1000"])
    said = lines(capsys.readouterr().out)
    return [(one["kind"], one["event_id"], one.get("windows"), one.get("observed"), one.get("judgement")) for one in said]


HALF = [{"names": ["mes.orders"], "columns": ["id"], "rows": 300_000, "bytes": 1000}]
BUSY: list[list[bytes]] = [[flow(n, rows=300_000, objects=HALF)] for n in range(1, 7)]


def test_two_runs_over_two_halves_say_and_spend_what_one_run_does(capsys: pytest.CaptureFixture[str]) -> None:
    watch(Replay(a=list(BUSY)), "--store", "whole.db")
    watch(Replay(a=list(BUSY[:3])), "--store", "s.db")
    watch(Replay(a=list(BUSY[3:])), "--store", "s.db")
    assert told(capsys) == told(capsys, "whole.db")
    assert spent() == spent("whole.db")
    assert "over-limit" in {one[4]["verdict"] for one in told(capsys) if one[4]}  # type: ignore[index]  # JSON values


@pytest.mark.parametrize("state_s", [0.0, 1e9])
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_kill_in_the_middle_neither_loses_nor_doubles_a_budget(
    cut: int, state_s: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(Replay(a=list(BUSY)), "--store", "whole.db")
    monkeypatch.setattr("hopwatch.watch.STATE_S", state_s)
    child = os.fork()
    if child == 0:
        watch(Replay(a=[*BUSY[:cut], lambda: os.kill(os.getpid(), signal.SIGKILL)]), "--store", "s.db")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    watch(Replay(a=list(BUSY[cut:])), "--store", "s.db")
    assert told(capsys) == told(capsys, "whole.db")
    assert spent() == spent("whole.db")


def test_a_kill_between_the_state_and_the_log_changes_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    watch(Replay(a=list(BUSY)), "--store", "whole.db")
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(EmbeddedLog, "commit", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        watch(Replay(a=list(BUSY[:4])), "--store", "s.db")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    watch(Replay(a=list(BUSY[4:])), "--store", "s.db")
    assert told(capsys) == told(capsys, "whole.db")
    assert spent() == spent("whole.db")


def test_the_same_capture_again_shows_the_same_and_charges_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(Replay(a=list(BUSY)), "--store", "s.db", "--json", "--no-questions") == 1
    first, before = lines(capsys.readouterr().out)[-1], spent()
    assert watch(Replay(a=list(BUSY)), "--store", "s.db", "--json", "--no-questions") == 1
    again = lines(capsys.readouterr().out)[-1]
    assert (again["windows"], again["findings"]) == (first["windows"], first["findings"])
    assert spent() == before


def test_budgets_outlive_a_new_version_of_the_declaration(capsys: pytest.CaptureFixture[str]) -> None:
    watch(Replay(a=list(BUSY[:3])), "--store", "s.db")
    before = spent()
    capsys.readouterr()
    Path("plant.yaml").write_text(PLANT.replace("version: 3", "version: 4"))
    assert watch(Replay(a=list(BUSY[:3])), "--store", "s.db", "--json") == 0  # Judged anew, charged once.
    assert lines(capsys.readouterr().out)[-1]["windows"] == 3
    assert spent() == before
    assert watch(Replay(a=list(BUSY[3:4])), "--store", "s.db") == 1
    assert "over-limit" in capsys.readouterr().out


def test_a_new_declaration_judges_known_windows_anew(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(Replay(a=[[flow(1)]]), "--store", "s.db") == 0
    Path("plant.yaml").write_text(PLANT.replace("may: [select]", "may: [copy]"))
    capsys.readouterr()
    assert watch(Replay(a=[[flow(1)]]), "--store", "s.db") == 1
    assert "unapproved-operation" in capsys.readouterr().out
    assert main(["flows", "--store", "s.db", "--json"]) == 0
    (kept,) = lines(capsys.readouterr().out)
    assert (kept["judgement"]["verdict"], kept["judgement"]["earlier"][0]["verdict"]) == ("unapproved-operation", "declared")
    assert main(["explain", kept["event_id"], "--store", "s.db"]) == 0
    said = capsys.readouterr().out
    assert "  judged by north v3, not committed, UNSIGNED\n  before, declared by north v3, not committed\n" in said


def test_sigterm_ends_with_a_summary_and_leaves_the_handler_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    replay = Replay(a=[[flow(1)], lambda: os.kill(os.getpid(), signal.SIGTERM), [flow(2)]])
    assert watch(replay, "--json") == 0
    said = lines(capsys.readouterr().out)
    assert [line["kind"] for line in said] == ["flow", "summary"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_store_none_writes_no_file(plant: Path) -> None:
    before = set(plant.iterdir())
    assert watch(Replay(a=[[flow(1)]]), "--store", "none", "--json") == 0
    assert set(plant.iterdir()) == before


def test_line_that_is_no_event_is_counted_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(Replay(a=[[flow(1), b'{"kind":"flow"}']]), "--json") == 2
    assert "1 events could not be understood" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["watch", "-r", "a"], "a declaration is needed"),
        (["watch", "-d", "plant.yaml"], "something to read is needed"),
        (["watch", "-d", "nowhere.yaml", "-r", "a"], "nowhere.yaml:1:1 file: cannot be read: No such file or directory"),
        (["watch", "-d", "plant.yaml", "-r", "nowhere"], "nowhere: No such file or directory"),
        (["watch", "-d", "plant.yaml", "-i", "eth9"], "eth9: Operation not permitted"),
        (["watch", "--jsn"], "did you mean --json?"),
        (["watch", "-d", "plant.yaml", "-r", "a", "--at", "yesterday"], "--at"),
        (["findings", "--store", "nowhere.db"], "nowhere.db: no such store"),
        (["explain", "12345"], "no such store"),
        (["inspect", "nowhere"], "nowhere: No such file or directory"),
        (["wach"], "wach"),
        ([], "COMMAND"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(flags, sensors=Replay(a=[[]])) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "UNSIGNED" not in line]
    assert len(error) == 1
    assert message in error[0]


def test_broken_declaration_is_one_line_with_file_and_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("plant.yaml").write_text(PLANT.replace("to: mw", "to: nowhere"))
    assert watch(Replay(a=[[]])) == 2
    assert capsys.readouterr().err.startswith("hopwatch: plant.yaml:23:36 extract: ")


def test_inspect_prints_one_line_a_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--json", "a"], sensors=Replay(a=[[flow(1)]])) == 0
    assert {line["kind"] for line in lines(capsys.readouterr().out)} == {"conversation", "summary"}


def test_inspect_of_a_capture_that_breaks_off_shows_its_beginning_and_gives_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--json", "a"], sensors=Replay(a=[[flow(1)], ValueError("a: ends at offset 239 within a frame")])) == 1
    said = capsys.readouterr()
    assert said.err == "hopwatch: a: ends at offset 239 within a frame\n"
    assert {line["kind"] for line in lines(said.out)} == {"conversation", "summary"}
    assert main(["inspect", "nowhere", "a"], sensors=Replay(a=[ValueError("a: damaged")])) == 2


def test_vlans_that_are_one_network_reach_the_sensor_of_watch_and_inspect() -> None:
    replay = Replay(a=[[]])
    watch(replay, "--vlans-equal", "120=220", "--vlans-equal", "vni:7=vni:9", "--tap-of", "eth3=cell-2", "--store", "none")
    assert (replay.vlans_equal, replay.tap_of) == (["120=220", "vni:7=vni:9"], ["eth3=cell-2"])
    main(["inspect", "--vlans-equal", "1=2", "a"], sensors=replay)
    assert replay.vlans_equal == ["1=2"]


def test_schema_and_version_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert "Flow" in json.loads(capsys.readouterr().out)["$defs"]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("hopwatch ")


def test_text_from_the_wire_cannot_write_to_the_terminal() -> None:
    assert "\x1b" not in clean("a\x1b[2Jb\r\n")
    finding = {
        "verdict": "undeclared-account", "severity": "high", "plant": "north", "finding_id": "F-00000001", "who": "x\x1b[31m",
        "source": "a", "destination": "b\n", "first_seen": "2026-04-07T10:00:00Z", "last_seen": "2026-04-07T10:09:00Z",
    }  # fmt: skip
    assert "\x1b" not in violation(finding)


def test_amounts_are_written_for_people() -> None:
    assert amounts({"rows": 1204331, "bytes": 812 * 2**20}) == "1 204 331 rows, 812 MiB"
    assert (size(1023), size(1024)) == ("1023 B", "1.00 KiB")
    assert span("2026-04-07T10:00:00Z", "2026-04-07T10:09:00Z") == "9 min"


def test_questions_are_asked_unless_nobody_wants_them(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """A dump by a stranger is a verdict in any case; that it is a dump, and a new account, only the questions say."""
    stranger = [flow(1, "someone", application="pg_dump")]
    for flags, questions in (([], {"dump", "new-account"}), (["--no-questions"], set())):
        assert watch(Replay(a=[stranger]), "--json", "--store", "none", *flags) == 1
        said = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
        findings = {line["verdict"] for line in said if line["kind"] == "finding"}
        assert findings == {"undeclared-account"} | questions
        assert said[-1]["findings"] == dict.fromkeys(findings, 1)


def test_what_time_alone_shows_is_said_in_the_plain_view(capsys: pytest.CaptureFixture[str]) -> None:
    """An agent of a conduit that was heard to beat and falls silent is about no window."""
    beat = dump(Heartbeat(event_id="b" * 32, plant="north", agent="tap", time="2026-04-07T10:00:00Z"))
    quiet = [beat, flow(1), flow(2, agent="other", start="2026-04-07T10:05:00Z", end="2026-04-07T10:05:01Z")]
    assert watch(Replay(a=[quiet]), "--store", "none") == 1
    assert "agent-silent" in capsys.readouterr().out


@pytest.mark.parametrize(("before", "after"), [("--no-questions", "--questions"), ("--questions", "--no-questions")])
def test_whoever_turns_questions_on_or_off_goes_on_with_the_budgets_there_are(
    before: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(Replay(a=list(BUSY[:3])), "--store", "s.db", before)
    assert sum(spent()["hop:extract#rows/1h"][0][0][1:]) == 900_000
    assert watch(Replay(a=list(BUSY)), "--store", "s.db", "--json", after) == 1
    said = capsys.readouterr()
    assert "anew" not in said.err
    assert '"verdict":"over-limit"' in said.out
