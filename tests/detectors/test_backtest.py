# ruff: noqa: E501 (declarations in one line)
"""A declaration held against what the store keeps: names that rest as hashes, use of each line, findings that come and go."""

import json
import subprocess
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from moves import DAY_NS, HOUR_NS
from north import MW, NIGHT, NOON, TEXT, UPLOAD, architecture, collect, end, extract, flow, mes, objects, publish, upload

from detectors.verdict import VerdictDetector
from hopwatch import history
from hopwatch.backtest import Progress
from hopwatch.cli import main
from hopwatch.declared.match import Index
from hopwatch.declared.model import Architecture
from hopwatch.events import Flow, Heartbeat, dump, time_ns, time_text
from hopwatch.history import Comparison, Stretch
from hopwatch.history import Said as Said_
from hopwatch.store import JudgedFlow
from hopwatch.store.embedded import EmbeddedStore
from hopwatch.store.postgresql import Hiding, PostgresStore, Said

MIB = 2**20
PERSON = (
    "  dba:      {kind",
    "  j.doe:    {kind: person, owner: mes-team, from: [10.20.2.77], auth: scram-sha-256}\n"
    '  engineer: {kind: person, owner: mes-team, from: [10.20.2.78], auth: certificate, identities: ["certificate:CN=eng-*"]}\n'
    "  dba:      {kind",
)
READ_BY = (
    "    {{who: {who}, from: mes-db, to: site-ops, may: [select], what: [orders], agent: tap-l3, sees: server-log, feed: mes-db-log,\n"
)
PERSONS_HOPS = (
    "  mes-writes:",
    "  doe-reads:\n" + READ_BY.format(who="j.doe") + "     why: shift reports, limit: 500k rows / 1h, keep: 1d}\n"
    "  eng-reads:\n" + READ_BY.format(who="engineer") + "     why: shift reports, limit: 500k rows / 1h, keep: 1d}\n  mes-writes:",
)  # fmt: skip


def asked(who: str, host: int, day: int, *, n: int = 0, rows: int = 100, **more: Any) -> Flow:  # Any: fields of a flow
    at = time_text(time_ns(NOON) + day * DAY_NS + n * 10**9)
    part = [objects("mes.work_order", columns=("*",), rows=rows, bytes=rows * 90)]
    client = end((f"10.20.2.{host}", 50_000))
    return mes(at=at, n=day * 100 + n, account=who, destination=client, objects=part, **more)


def engineer(day: int, **more: Any) -> Flow:  # Any: fields of a flow
    return asked("certificate:CN=eng-7", 78, day, protection={"transport": "tls1.3", "authentication": "certificate"}, **more)


def days(count: int) -> list[Flow]:
    """A plant of so many days: a nightly extraction, an upload, telemetry, people."""
    windows = []
    for day in range(count):
        later = day * DAY_NS
        rows = [objects("quality.inspection", columns=("lot",), rows=60_000 + day, bytes=4 * MIB)]
        windows += [
            extract(at=time_text(time_ns(NIGHT) + later), n=day, objects=rows),
            upload(at=time_text(time_ns(UPLOAD) + later), n=day, bytes=20 * MIB),
            publish(at=time_text(time_ns(NOON) + later), n=day),
            collect(at=time_text(time_ns(NOON) + later), n=day),
            mes(at=time_text(time_ns(NOON) + later), n=day),
            asked("j.doe", 77, day), engineer(day), asked("stranger", 79, day),
        ]  # fmt: skip
    return sorted(windows, key=lambda one: time_ns(one.start))


def plant(**changes: tuple[str, str]) -> Architecture:
    return architecture(person=PERSON, hops=PERSONS_HOPS, **changes)


def clear(judged_by: Architecture) -> Callable[[str], bool]:
    """Who rests in clear: services and vendors."""
    index = Index(judged_by)

    def is_clear(account: str) -> bool:
        name = index.account(account)
        return name is not None and judged_by.accounts[name].kind in ("service", "vendor")

    return is_clear


def kept(folder: Path, windows: Iterable[Flow], judged_by: Architecture | None) -> Path:
    """A store as ``watch`` leaves it: judged on the day, persons as hashes."""
    path = folder / "store.db"
    store = EmbeddedStore(path, is_clear=clear(judged_by or plant()))
    detector = None if judged_by is None else VerdictDetector(judged_by)
    flows = []
    for window in windows:
        said = {} if detector is None else detector.observe(window)[0].event
        names = ("verdict", "severity", "hop", "finding_id", "checked", "declaration")
        told = {name: said[name] for name in names if name in said}
        flows.append(JudgedFlow(json.loads(dump(window)), **told, differences=tuple(said.get("differences", ()))))
    beats = [
        Heartbeat(event_id=f"{n:032x}", plant="north", agent="mes-db-log", time=time_text(time_ns(NOON) + n * HOUR_NS)) for n in range(4)
    ]
    store.add(flows=flows, heartbeats=[json.loads(dump(beat)) for beat in beats])
    store.close()
    assert "j.doe" not in path.read_bytes().decode("latin-1")
    return path


def written(folder: Path, name: str = "plant.yaml", **changes: tuple[str, str]) -> Path:
    text = TEXT
    for old, new in (PERSON, PERSONS_HOPS, *changes.values()):
        assert old in text, old
        text = text.replace(old, new, 1)
    (folder / name).write_text(text, "utf-8")
    return folder / name


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, list[dict[str, Any]]]:  # Any: JSON values
    code = main(["declared", *map(str, arguments), "--json"])
    out = capsys.readouterr()
    assert code in (0, 1), out.err
    return code, [json.loads(line) for line in out.out.splitlines()]


def effects(lines: list[dict[str, Any]]) -> list[tuple[str, str, str | None, str | None]]:
    return [(one["effect"], one["verdict"], one["who"], one["hop"]) for one in lines if one["kind"] == "effect"]


# backtest


def test_the_same_declaration_says_of_the_past_what_it_said_on_the_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = kept(tmp_path, days(4), plant())
    code, lines = told(capsys, "backtest", written(tmp_path), "--store", store)
    assert code == 0 and effects(lines) == []
    (end_,) = lines
    assert (end_["windows"], end_["changed"], end_["remain"], end_["aside"]) == (32, 0, 1, 0)
    # The stranger is one then and now, and the only account that no name explains.
    assert (end_["strangers"], end_["strangers_windows"]) == (1, 4)


def test_a_person_taken_out_of_the_file_appears_by_name_and_nobody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = kept(tmp_path, days(3), plant())
    narrower = written(
        tmp_path,
        other=(
            "what: [orders], agent: tap-l3, sees: server-log, feed: mes-db-log,\n     why: shift",
            "what: [inspection], agent: tap-l3, sees: server-log, feed: mes-db-log,\n     why: shift",
        ),
    )
    code, lines = told(capsys, "backtest", narrower, "--store", store)
    assert code == 1
    assert effects(lines) == [("appears", "undeclared-data", "j.doe", "doe-reads")]
    assert [one["windows"] for one in lines if one["kind"] == "effect"] == [3]


def test_a_login_and_the_data_after_it_are_one_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reads = [asked("j.doe", 77, day) for day in range(3)]
    logins = []
    for day in range(3):
        login = asked("j.doe", 77, day, n=5, operation="connect", rows=0, opened_by="source", key=f"login{day}")
        login.source, login.destination, login.objects = login.destination, login.source, []
        logins.append(login)
    store = kept(tmp_path, [*reads, *logins], plant())
    elsewhere = ("from: [10.20.2.77]", "from: [10.20.2.99]")
    code, lines = told(capsys, "backtest", written(tmp_path, elsewhere=elsewhere), "--store", store)
    # Of three hops that differ alike, the first of the file.
    assert (code, effects(lines)) == (1, [("appears", "undeclared-account", "j.doe", "mes-works")])
    assert (lines[0]["windows"], lines[0]["source"]) == (6, "mes-db")


def test_a_stranger_who_is_declared_now_disappears_whatever_his_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = kept(tmp_path, days(3), plant())
    for kind in ("service", "person"):
        account = (
            "  dba:      {kind",
            f"  stranger: {{kind: {kind}, owner: mes-team, from: [10.20.2.79], auth: scram-sha-256}}\n  dba:      {{kind",
        )
        hop = (
            "  mes-writes:",
            "  his-reads:\n" + READ_BY.format(who="stranger") + "     why: reports, limit: 5k rows / 1h, keep: 1d}\n  mes-writes:",
        )
        code, lines = told(capsys, "backtest", written(tmp_path, account=account, hop=hop), "--store", store)
        assert code == 0
        assert [(effect, verdict, who) for effect, verdict, who, _ in effects(lines)] == [("disappears", "undeclared-account", "stranger")]
        assert lines[-1]["strangers"] == 0


def test_without_the_right_key_nobody_is_taken_for_a_stranger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = kept(tmp_path, days(1), plant())
    other = tmp_path / "other.key"
    other.write_text("ab" * 32)
    other.chmod(0o600)
    code, lines = told(capsys, "backtest", written(tmp_path), "--store", store, "--key", other)
    # A hash that no name gives: known then, so set aside; known by a glob then, so known now.
    assert code == 0 and effects(lines) == []
    assert (lines[-1]["aside"], lines[-1]["strangers"]) == (1, 2)
    assert main(["declared", "backtest", str(written(tmp_path)), "--store", str(store), "--key", str(tmp_path / "no.key")]) == 2
    assert "is missing" in capsys.readouterr().err


def test_a_tighter_limit_appears_where_it_would_have_been_passed_and_a_wider_one_disappears(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    limits = "limit: [200k rows / 1h, 400k rows / 1d, 300 MiB / 1d]"
    tight = (limits, "limit: [60001 rows / 1h, 400k rows / 1d, 300 MiB / 1d]")
    store = kept(tmp_path, days(4), plant())
    code, lines = told(capsys, "backtest", written(tmp_path, tight=tight), "--store", store)
    assert (code, effects(lines)) == (1, [("appears", "over-limit", "svc_mw", "extract-quality")])
    # The nights of 60,002 and 60,003 rows.
    assert lines[0]["windows"] == 2
    (tmp_path / "tight").mkdir()
    store = kept(tmp_path / "tight", days(4), plant(tight=tight))
    code, lines = told(capsys, "backtest", written(tmp_path), "--store", store)
    assert (code, effects(lines)) == (0, [("disappears", "over-limit", "svc_mw", "extract-quality")])


def test_limits_have_counted_what_came_before_the_stretch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = kept(tmp_path, days(12), plant())
    month = ("limit: 300 MiB / 1d}", "limit: [300 MiB / 1d, 210 MiB / 30d]}")
    code, lines = told(capsys, "backtest", written(tmp_path, month=month), "--store", store, "--days", "2")
    # 20 MiB a night: the eleventh passes the budget, though of the two days looked at neither does.
    assert (code, effects(lines)) == (1, [("appears", "over-limit", None, "lake-upload")])
    assert lines[0]["windows"] == 2
    assert lines[-1]["windows"] < 20


def test_windows_that_nobody_judged_are_compared_with_another_edition_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = kept(tmp_path, days(2), None)
    old, new = (
        written(tmp_path, "old.yaml"),
        written(tmp_path, "new.yaml", may=("may: [select, copy]                      #", "may: [copy] #")),
    )
    code, lines = told(capsys, "backtest", new, "--store", store)
    assert (code, effects(lines), lines[-1]["unjudged"]) == (0, [], 16)
    code, lines = told(capsys, "backtest", new, "--store", store, "--against", old)
    assert (code, effects(lines)) == (1, [("appears", "unapproved-operation", "svc_mw", "extract-quality")])


def test_a_store_without_the_plant_and_a_wrong_edition_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path)
    assert main(["declared", "hits", str(file), "--store", str(tmp_path / "none.db")]) == 2
    store = kept(tmp_path, [], plant())
    assert main(["declared", "hits", str(file), "--store", str(store)]) == 2
    assert main(["declared", "backtest", str(file), "--store", str(store), "--against", "no-such-thing"]) == 2
    assert main(["declared", "diff", str(file), "--store", str(store)]) == 2
    err = capsys.readouterr().err.splitlines()
    assert ["no such store" in err[0], "no window of plant north" in err[1], "no revision" in err[2], "expected OLD NEW" in err[3]] == [
        True
    ] * 4


# hits


def test_hits_tell_use_last_use_and_peaks_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = kept(tmp_path, days(31), plant())
    file = written(tmp_path)
    code, lines = told(capsys, "hits", file, "--store", store)
    rows = {(one["section"], one["name"]): one for one in lines if one["kind"] == "line"}
    extraction = rows["hops", "extract-quality"]
    assert (extraction["windows"], extraction["days"], extraction["last_use"]) == (31, 31, "2026-05-07T00:00:00Z")
    assert file.read_text().splitlines()[extraction["line"] - 1].startswith("  extract-quality:")
    assert [(one["limit"], one["peak"], one["remark"]) for one in extraction["limits"]] == [
        ("200k rows / 1h", 60_030, ""), ("400k rows / 1d", 60_030, "broad"), ("300 MiB / 1d", 4 * MIB, "broad"),
    ]  # fmt: skip
    assert (rows["hops", "mes-writes"]["remarks"], rows["hops", "mes-writes"]["windows"]) == (["unseen"], 0)
    assert rows["hops", "doe-reads"]["windows"] == rows["hops", "eng-reads"]["windows"] == 31
    # The stranger comes by both hops' ends; he makes neither used.
    assert rows["hops", "doe-reads"]["differing"] + rows["hops", "mes-works"]["differing"] + rows["hops", "eng-reads"]["differing"] == 31
    assert rows["accounts", "dba"]["remarks"] == [] and rows["accounts", "acme"]["remarks"] == ["unseen"]
    assert rows["accounts", "svc_lake"]["windows"] == 31, "nobody read it; the hop's account is assumed"
    budget = rows["budgets", "all hops with quality to off-site"]
    assert (budget["windows"], budget["limits"][0]["peak"]) == (31, 20 * MIB)
    assert (code, lines[-1]["windows"], lines[-1]["days_held"]) == (1, 31 * 8, 31)


def test_a_service_and_a_ticket_are_used_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name_server = flow(
        source=end(("10.20.0.2", 53)), destination=end(MW), protocol="dns", operation="query", transport="udp", bytes=90, at=NOON
    )
    rows = [objects("quality.inspection", columns=("lot",), rows=4_000_000, bytes=90)]
    reload_ = extract(at="2026-04-03T23:00:00Z", objects=rows)
    standby = extract(destination=end(("10.20.1.22", 50_000)), account="replicator", application=None, operation="replicate", at=NOON)
    store = kept(tmp_path, [reload_, name_server, standby], plant())
    _, lines = told(capsys, "hits", written(tmp_path), "--store", store)
    rows_ = {(one["section"], one["name"]): one["windows"] for one in lines if one["kind"] == "line"}
    assert (rows_["services", "dns"], rows_["services", "time"], rows_["exceptions", "quarter-reload"]) == (1, 0, 1)
    assert rows_["accounts", "replicator"] == 1


def test_what_few_days_do_not_show_is_neither_unseen_nor_broad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = kept(tmp_path, days(29), plant())
    code, lines = told(capsys, "hits", written(tmp_path), "--store", store)
    assert (code, [one["remarks"] for one in lines if one.get("remarks")]) == (0, [])


def test_hits_for_people_name_the_peak_and_the_sums_without_a_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = kept(tmp_path, days(3), plant())
    assert main(["declared", "hits", str(written(tmp_path)), "--store", str(store)]) == 0
    out = capsys.readouterr().out
    assert "60k rows of 200k rows / 1h: 30% on 2026-04-09" in out
    assert any("quality to lake-eu" in line and "60 MiB" in line and "no 30d budget" in line for line in out.splitlines())
    assert "3 windows of 1 account that no declared name explains" in out


def test_what_every_class_sent_where_equals_what_the_windows_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    windows = days(2)
    _, lines = told(capsys, "hits", written(tmp_path), "--store", kept(tmp_path, windows, plant()))
    moved = {
        (one.get("class") or one["owner"], one.get("to"), one["unit"]): one["most_in_30_days"] for one in lines if one["kind"] == "moved"
    }

    def ledger(unit: str, *accounts: str | None) -> int:
        return sum(getattr(one, unit) for one in windows if one.account in accounts)

    assert moved["quality", "idmz", "rows"] == ledger("rows", "svc_mw")
    assert moved["quality", "lake-eu", "bytes"] == moved["data-eng", None, "bytes"] == ledger("bytes", None)
    assert moved["production", "site-ops", "rows"] == ledger("rows", "j.doe", "certificate:CN=eng-7")
    assert moved["process_ip", "site-ops", "bytes"] == ledger("bytes", "svc_mes")
    assert moved["telemetry", "idmz", "bytes"] == ledger("bytes", "certificate:CN=edge-l1")


# diff


def test_a_diff_is_told_in_words_with_past_use_and_its_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = kept(tmp_path, days(3), plant())
    old = written(tmp_path, "old.yaml")
    new = written(
        tmp_path, "new.yaml",
        version=("version: 14", "version: 15"),
        limit=("limit: [200k rows / 1h, 400k rows / 1d, 300 MiB / 1d]", "limit: [300k rows / 1h, 50k rows / 1d]"),
        gone=(TEXT[TEXT.index("  ml-features:") : TEXT.index("  acme-diagnose:")], ""),
        again=("budgets: ", "  lake-again:\n    {who: svc_lake, from: mw, to: lake, via: c-lake, may: [put], what: [inspection], limit: 20 MiB / 1d,\n"
               '     keep: 90d, without: ["*.operator_name"], protect: {at_rest: customer-key, pseudonymise: ["*.operator_id"]}, why: again,\n'
               "     gdpr: {basis: contract}, approved: {by: h.keller, ticket: CHG-2, until: 2026-12-31}}\n\nbudgets: "),
    )  # fmt: skip
    assert main(["declared", "diff", f"{old}..{new}", "--store", str(store)]) == 1
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert (
        "+ lake-again NEW off-site hop: inspection (quality, contains pseudonymised operator_id) -> lake-eu (DE), 20 MiB / 1d, until 2026-12-31"
        in lines
    )
    assert "~ extract-quality limit 200k -> 300k rows / 1h (used at most 60k rows in the last 31 days: looser than needed)" in lines
    assert "~ extract-quality limit 400k -> 50k rows / 1d (used at most 60k rows in the last 31 days: too narrow for that)" in lines
    assert "~ extract-quality limit 300 MiB / 1d removed (used at most 4 MiB in the last 31 days)" in lines
    assert "- ml-features removed; not used in the last 31 days" in lines
    assert "effect on the last 31 days of traffic: 0 findings would disappear, 1 would appear" in lines
    assert main(["declared", "diff", str(old), str(old), "--store", str(store)]) == 0
    assert "nothing differs" in capsys.readouterr().out


def test_a_diff_of_revisions_reads_them_from_git_and_needs_no_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path)

    def git(*arguments: str) -> None:
        name = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *name, *arguments], check=True, capture_output=True)

    git("init", "-q")
    git("add", "plant.yaml")
    git("commit", "-qm", "first")
    git("tag", "v14")
    written(tmp_path, version=("version: 14", "version: 15"), why=("why: scrap model training, UC-12", "why: training"))
    git("commit", "-qam", "second")
    written(tmp_path, version=("version: 14", "version: 16"))
    assert main(["declared", "diff", "v14..HEAD", str(file)]) == 1
    out = capsys.readouterr().out
    assert "north v14" in out and "north v15" in out
    assert "~ lake-upload              why scrap model training, UC-12 -> training" in out
    assert "effect on traffic unknown: no store" in out
    assert main(["declared", "diff", "HEAD..", str(file)]) == 1
    assert "why training -> scrap model training, UC-12" in capsys.readouterr().out


# Both stores, and long runs


def test_postgresql_is_asked_as_a_file_is(postgres: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "store.db.key"
    file = kept(tmp_path, days(3), None)
    hiding = Hiding(bytes.fromhex(key.read_text().strip()))
    hiding.declare("north", clear(plant()))
    scale = PostgresStore(postgres, hiding, today=lambda: date(2026, 4, 8))
    scale.add([Said(line, json.loads(line)) for line in map(dump, days(3))])
    scale.close()
    old, new = (
        written(tmp_path, "old.yaml"),
        written(tmp_path, "new.yaml", may=("may: [select, copy]                      #", "may: [copy] #")),
    )
    answers = [told(capsys, "backtest", new, "--against", old, "--store", store, "--key", key) for store in (postgres, file)]
    assert answers[0] == answers[1]
    assert effects(answers[0][1]) == [("appears", "unapproved-operation", "svc_mw", "extract-quality")]
    assert main(["declared", "hits", str(new), "--store", postgres]) == 2
    assert "--key FILE" in capsys.readouterr().err


def test_a_long_run_says_how_far_it_has_come(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = iter(range(0, 1000, 3))
    progress = Progress(Stretch(time_ns(NIGHT), time_ns(NIGHT) + 10 * DAY_NS), clock=lambda: float(next(seconds)))
    for n in range(1024):
        progress.at(time_text(time_ns(NIGHT) + n * 10 * DAY_NS // 1024))
    assert capsys.readouterr().err.splitlines() == ["hopwatch: 512 windows, 2026-04-11, 50%", "hopwatch: 1024 windows, 2026-04-16, 100%"]


def test_findings_beyond_the_bound_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "CASES_MAX", 3)
    comparison = Comparison()
    judge = VerdictDetector(plant())
    for host in range(5):
        (judged,) = judge.observe(asked("stranger", 100 + host, 0, n=host))
        comparison.add(judged, Said_("declared", "info", "", {}), strange=False)
    assert (len(comparison.appearing()), comparison.after.beyond, comparison.changed) == (3, 2, 5)
