# ruff: noqa: E501 (a row of the table is one mutation)
"""Each rule from both sides: plant-north with one thing changed is refused at the right line, and its twin is accepted."""

from datetime import date
from pathlib import Path

import pytest

from hopwatch.declared.load import load, loads
from hopwatch.declared.model import Architecture
from hopwatch.declared.problem import ArchitectureError, Level, Problem

PLANT = Path(__file__).parents[2] / "examples" / "plant-north.yaml"
TEXT = PLANT.read_text("utf-8")
DAY = date(2026, 4, 7)


def changed(*changes: tuple[str, str]) -> str:
    text = TEXT
    for old, new in changes:
        assert text.count(old) >= 1, f"plant-north no longer says {old!r}"
        text = text.replace(old, new, 1)
    return text


def read(*changes: tuple[str, str]) -> Architecture:
    return loads(changed(*changes), "plant-north.yaml", at=DAY)


def refused(*changes: tuple[str, str]) -> tuple[Problem, ...]:
    with pytest.raises(ArchitectureError) as caught:
        read(*changes)
    return caught.value.problems


def line_of(text: str, needle: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if needle in line)


def test_a_hop_carries_nothing_that_is_not_classified() -> None:
    (problem,) = refused(("may: [subscribe], what: [uns-events]", "may: [subscribe], what: [raw-tables]"))
    assert "raw-tables is no data of this file" in str(problem)
    (problem,) = refused(("  decoy:      {class:", "  decoy:      {klass:"))[:1]
    assert "class" in str(problem)


def test_plant_north_holds_and_nothing_in_it_has_ended() -> None:
    architecture = load(PLANT, at=DAY)
    assert len(architecture.hops) == 8
    assert architecture.declaration.version == 14
    assert [problem for problem in architecture.problems if problem.level is not Level.WARNING] == []


# rule, the change that breaks it (old, new), what stands on the line named, the sentence, and the accepted twin (or None).
LAKE = 'protect: {transit: tls1.3, at_rest: customer-key, evidence: ATT-2026-031, pseudonymise: ["*.operator_id"]}'
CASES = [
    ("reference", ("zone: cell-1, ", "zone: cell-9, "), "opc-l1: ", "zone cell-9 is no zone of this file, did you mean cell-2?", None),
    ("reference", ("who: svc_lake", "who: svc_lke"), "who: svc_lke", "who svc_lke is no account of this file, did you mean svc_lake?", None),
    ("reference", ("from: [historian],  ", "from: [histrian],  "), "svc_hist:", "from histrian is neither a zone, an asset nor an address",
     ("from: [historian],  ", "from: [10.20.1.30],  ")),
    ("reference", ("{owner: integration, limit", "{owner: nobody, limit"), "owner: nobody", "owner nobody is no account's owner", None),
    ("class-order", ("operator:   {sensitivity: pii", "operator:   {sensitivity: internal"), "operator: ", "classes stand lowest first",
     ("telemetry:  {sensitivity: internal", "telemetry:  {sensitivity: confidential")),
    ("zone", (", nets: [10.10.1.0/24]", ""), "cell-1:", "neither nets nor names", None),
    ("zone", ("nets: [10.10.2.0/24]", "nets: [10.10.1.0/24, 10.10.2.0/24]"), "cell-2:", "10.10.1.0/24 belongs to zone cell-1 already",
     ("nets: [10.10.2.0/24]", "nets: [10.10.2.0/24, 10.10.3.0/24]")),
    ("zone", (", country: US", ""), "acme-rs:", "is off site; add country", (", country: US", ", country: CA")),
    ("asset", ('kind: opcua,        at: "10.10.1.10:4840"', "kind: opcua"), "opc-l1:", "has no address", None),
    ("asset", ("at: 10.20.1.30", "at: 10.30.0.99"), "historian:", "10.30.0.99 is outside zone site-ops, it is in idmz",
     ("at: 10.20.1.30", "at: 10.20.3.255")),
    ("asset", ("at: 10.20.1.30", "at: 10.20.1.20"), "mes-app:", "10.20.1.20 is asset historian already", ("at: 10.20.1.30", "at: 10.20.1.31")),
    ("service", ("cap: 1 MiB / 1d per host", "cap: 1 MiB / 1d"), "  time:", "expected a cap per host and day", ("cap: 1 MiB / 1d per host",
     "cap: 2 MiB / 1d per host")),
    ("account", (" expires: 2026-06-30,", ""), "  acme: ", "is a vendor's; add expires", (" expires: 2026-06-30,", " expires: 2026-07-31,")),
    ("account", (", needs: ticket", ""), "  dba:", "add needs: ticket", None),
    ("account", ("certificate:CN=edge-*", "certificate:CN=*"), "svc_edge:", "stands for anyone", ("certificate:CN=edge-*", "certificate:CN=e*")),
    ("decoy", ("what: [inspection, orders]", "what: [inspection, decoy]"), "what: [inspection, decoy]", "decoy is a decoy", None),
    ("ticket", ("who: svc_mw", "who: dba"), "who: dba", "dba needs a ticket, so no hop approves it", None),
    ("ends", ("who: svc_mw", "who: svc_ml"), "who: svc_ml", "svc_ml may come only from ml", ("who: svc_mw", "who: svc_lake")),
    ("conduit", ("    via: c-ops\n", ""), "extract-quality:", "crosses from site-ops to idmz; add via: c-ops", None),
    ("conduit", ("via: c-ops", "via: c-ml"), "via: c-ml", "c-ml leads from idmz to analytics, not from site-ops to idmz", None),
    ("conduit", ("    via: c-ops\n", "    via: c-ops\n    sees: sizes\n"), "    sees: sizes", "sees is for a hop inside one zone", None),
    ("conduit", ("c-ops:   {from: site-ops,         to: idmz, ", "c-ops:   {from: idmz,  to: site-ops, "), "via: c-ops", "not back", None),
    ("name", ("may: [put]\n    what: [inspection]", "may: [put]\n    what: [trends]"), "what: [trends]",
     "trends is in historian, and no hop brings it to mw", ("may: [put]\n    what: [inspection]", "may: [put]\n    what: [orders]")),
    ("residency", ("quality:    {sensitivity: confidential, transit: tls1.3, keep_max: 10y, off_site: approved",
     "quality:    {sensitivity: confidential, transit: tls1.3, keep_max: 10y, off_site: never"), "    what: [inspection]",
     "class quality may never leave the site, and inspection is of it", None),
    ("residency", (', pseudonymise: ["*.operator_id"]', ""), "protect: {transit: tls1.3, at_rest",
     'class operator may leave the site only pseudonymised; add protect.pseudonymise for "*.operator_id"',
     (', pseudonymise: ["*.operator_id"]', ', pseudonymise: ["*.operator_*"]')),
    ("residency", ('may: [put]\n    what: [inspection]\n    without: ["*.operator_name"]', "may: [put]\n    what: [inspection]"),
     "protect: {transit: tls1.3, at_rest", 'add protect.pseudonymise for "*.operator_name"', None),
    ("residency", ("approved: {by: h.keller, ticket: CHG-4389, until", "approved: {by: h.keller, until"), "lake-upload:",
     "leaves the site; add approved with by and ticket", None),
    ("transit", ("protect: {transit: tls1.3}", "protect: {transit: tls1.2}"), "protect: {transit: tls1.2}",
     "transit tls1.2 is below tls1.3, which class quality demands", ("    protect: {transit: tls1.3}\n", "")),
    ("at-rest", ("at_rest: customer-key, evidence: ATT-2026-031, ", ""), "protect: {transit: tls1.3, pseudo",
     "class quality is at rest off site only encrypted; add protect.at_rest: encrypted",
     ("at_rest: customer-key, evidence", "at_rest: encrypted, evidence")),
    ("gdpr", ("    gdpr: {basis: legitimate interest, ropa: R-17, dpia: DPIA-2026-04, transfer: EU only}\n", ""), "lake-upload:",
     "takes personal data (class operator) off site; add gdpr with its basis", None),
    ("retention", ("keep: 7d", "keep: 181d"), "keep: 181d", "keep 181d is over 180d, the keep_max of class operator", ("keep: 7d", "keep: 180d")),
    ("retention", ("keep: 90d", "keep: source"), "keep: source\n", "keep source is for the system of record only, and lake is none", None),
    ("pilot", ("limit: 60 MiB / 1h, keep", "tags: [pilot], limit: 60 MiB / 1h, keep"), "tags: [pilot]", "is a pilot; add approved.date", None),
    ("pilot", ("keep: 180d, approved: {by: a.ruiz, ticket: CHG-4290, until: 2026-10-01}",
     "keep: 180d, tags: [pilot], approved: {by: a.ruiz, ticket: CHG-4290, date: 2026-04-01, until: 2026-06-01}"), "until: 2026-06-01}",
     "is a pilot until 2026-06-01, expected at most 60 days: 2026-05-31",
     ("keep: 180d, approved: {by: a.ruiz, ticket: CHG-4290, until: 2026-10-01}",
      "keep: 180d, tags: [pilot], approved: {by: a.ruiz, ticket: CHG-4290, date: 2026-04-01, until: 2026-05-31}")),
    ("pilot", ("approved: {by: h.keller, ticket: CHG-4388, until: 2026-12-31}",
     "tags: [pilot]\n    approved: {by: h.keller, ticket: CHG-4388, date: 2026-04-01, until: 2026-05-31}"), "    what: [inspection, orders]",
     "is a pilot and carries class operator, a pilot carries nothing pii", None),
    ("until", ("ticket: CHG-4410, until: 2026-06-30", "ticket: CHG-4410, until: 2026-07-01"), "until: 2026-07-01}}",
     "ends on 2026-07-01, after account acme expires on 2026-06-30", ("ticket: CHG-4410, until: 2026-06-30",
     "ticket: CHG-4410, until: 2026-06-29")),
    ("until", ("ticket: CHG-4389, until: 2026-12-31", "ticket: CHG-4389, until: 2037-12-31"), "until: 2037-12-31", "after terms VND-031", None),
    ("limit", ("limit: 250 MiB / 1d", "limit: 250 MiB / 1d per host"), "limit: 250 MiB", "per host is for the cap of a service",
     ("limit: 250 MiB / 1d", "limit: 251 MiB / 1d")),
    ("limit", ("400k rows / 1d, 300 MiB / 1d]", "400k rows / 1h, 300 MiB / 1d]"), "limit: [200k rows / 1h",
     '"200k rows / 1h" and "400k rows / 1h" limit the same thing', None),
    ("limit", ("limit: 250 MiB / 1d", "limit: 250 MiB / session"), "limit: 250 MiB", "a session is that of an account, limit it there",
     ("limit: 250 MiB / 1d", "limit: 250 MiB / 30d")),
    ("limit", ("auth: certificate,   expires", "auth: certificate, limit: 9 objects / 1d,   expires"), "  acme: ", "each object has a limit of its own",
     ("auth: certificate,   expires", "auth: certificate, limit: [9k values / 1d, 1 GiB / 30d, 9k values / session],   expires")),
    ("limit", ("rotate: 180d}\n  svc_edge", "rotate: 180d, limit: 9k rows / session}\n  svc_edge"), "svc_mes:", "a service does not rest",
     ("rotate: 180d}\n  svc_edge", "rotate: 180d, limit: [9k rows / 1h, 9k rows / 1d]}\n  svc_edge")),
    ("limit", ("rotate: 180d}\n  svc_edge", "rotate: 180d, limit: [9k rows / 1h, 8k rows / 1h]}\n  svc_edge"), "svc_mes:", "limit the same thing", None),
    ("promise", ("limit: 250 MiB / 1d", "limit: 250k rows / 1d"), "limit: 250k rows", "rows cannot be counted where only sizes are seen", None),
    ("promise", ("sees: server-log, feed: mes-db-log, through: fw-ot", "sees: decoded, through: fw-ot"), "c-ops:",
     "sees decoded, but hop extract-quality demands tls1.3; add feed, terminator or keylog",
     ("sees: server-log, feed: mes-db-log, through: fw-ot", "sees: decoded, keylog: mes-keys, through: fw-ot")),
    ("promise", ("sees: server-log, feed: mes-db-log, why", "why"), "mes-works:", "sees decoded (unless sees says less), but the hop demands tls1.3",
     None),
    ("promise", ("sees: server-log, feed: mes-db-log, through: fw-ot", "sees: server-log, through: fw-ot"), "c-ops:", "add feed", None),
    ("budget", ("{class: quality, to: off-site, limit", "{class: quality, limit"), "{class: quality, limit", "expected either class and to", None),
    ("exception", ("when: 2026-04-04 00:00-06:00", "when: daily 00:00-06:00"), "quarter-reload:", "an exception is for stated hours",
     ("when: 2026-04-04 00:00-06:00", "when: 2026-04-04 00:00-07:00")),
    ("exception", ("{hop: extract-quality, limit", "{account: svc_mw, asset: mes-db, may: [select], ignored: x, limit"), "quarter-reload:",
     "key ignored is unknown", None),
    ("exception", ("{hop: extract-quality, limit: [5M rows / 1d, 2 GiB / 1d]", "{account: svc_mw, asset: mes-db, may: [select]"),
     "quarter-reload:", "svc_mw needs no ticket", ("{hop: extract-quality, limit: [5M rows / 1d, 2 GiB / 1d]",
     "{account: dba, asset: mes-db, may: [select]")),
    ("exception", ("{hop: extract-quality, limit", "{hop: extract-quality, who: acme, limit"), "quarter-reload:",
     "an exception never adds an account, a destination or a class", None),
    ("loosening", ("hops: [mes-works], limit: 3x", "hops: [mes-works], limit: 1x"), "month-end", "month-end loosens nothing: mes-works may run",
     ("hops: [mes-works], limit: 3x", "hops: [mes-works], limit: 1.5x")),
    ("loosening", ("hops: [mes-works], limit: 3x", "hops: [mes-works]"), "month-end", "add limit such as 3x",
     ("hops: [mes-works], limit: 3x", "hops: [extract-quality]")),
    ("schema", ("hops: [mes-works], limit: 3x", "hops: [mes-works], limit: 0.5x"), "month-end", "a calendar line loosens", None),
    ("schema", (", ticket: CHG-4405", ""), "month-end", "ticket is missing", None),
    *(("schema", ("hops: [mes-works], limit: 3x", f"hops: [mes-works], limit: 3x, {key}"), "month-end", f"key {key.split(':')[0]} is unknown", None)
      for key in ("who: acme", "to: lake", "what_data: genealogy", "account: dba", "class: operator")),
    ("loosening", ("[5M rows / 1d, 2 GiB / 1d]", "[399999 rows / 1d]"), "quarter-reload", 'limit "399999 rows / 1d" is below "400k rows / 1d"',
     ("[5M rows / 1d, 2 GiB / 1d]", "[400k rows / 1d]")),
    ("loosening", ("{hop: extract-quality, limit: [5M rows / 1d, 2 GiB / 1d], when", "{hop: mes-works, when"), "quarter-reload",
     "loosens nothing: mes-works may run at any time", ("{hop: extract-quality, limit: [5M rows / 1d, 2 GiB / 1d], when",
     "{hop: extract-quality, when")),
    ("reference", ("from: [10.20.1.5],", "from: [10.20.1.0/29],"), "dba:", "is neither a zone, an asset nor an address",
     ("from: [10.20.1.5],", "from: [10.20.1.6],")),
    ("reference", ("from: [10.30.0.7],", 'from: ["2001:DB8:0:0::7"],'), "watching:", "write 2001:db8::7",
     ("from: [10.30.0.7],", 'from: ["2001:db8::7"],')),
]  # fmt: skip
BREAKS = CASES
TWINS = [(case[0], case[4]) for case in CASES if case[4] is not None]


@pytest.mark.parametrize(("rule", "change", "stands", "sentence", "_twin"), BREAKS, ids=[f"{c[0]}-{c[3][:30]}" for c in BREAKS])
def test_broken_rule_is_refused_at_its_line_in_the_files_language(
    rule: str, change: tuple[str, str], stands: str, sentence: str, _twin: object
) -> None:
    lines = changed(change).splitlines()
    found = [problem for problem in refused(change) if sentence in problem.message]
    assert found, [str(problem) for problem in refused(change)]
    assert all(stands.strip("\n") in lines[problem.line - 1] for problem in found), [str(problem) for problem in found]
    assert {problem.rule for problem in found} <= {rule, "schema"}
    assert all(str(problem).startswith(f"plant-north.yaml:{problem.line}:{problem.column} ") for problem in found)


@pytest.mark.parametrize(("rule", "change"), TWINS, ids=[f"{rule}-{new[:30]}" for rule, (_, new) in TWINS])
def test_accepted_twin_of_a_broken_rule_holds(rule: str, change: tuple[str, str]) -> None:
    assert read(change).plant == "north", rule


def test_class_that_never_leaves_is_found_inside_the_table_that_carries_it() -> None:
    problems = refused((
        "genealogy:  {class: process_ip, in: [mes-db], tables: [mes.genealogy, mes.process_param]}",
        'genealogy:  {class: process_ip, in: [mes-db], tables: [mes.genealogy], columns: ["*.torque"]}',
    ))  # fmt: skip
    assert [problem.subject for problem in problems] == ["lake-upload"]
    assert "class process_ip may never leave the site, and genealogy travels inside it as *.torque" in problems[0].message


def test_name_of_many_tenants_is_no_destination_without_a_feed() -> None:
    at = ('at: "plant-north.lake.example-cloud.eu:443"', "at: s3.eu-central-1.amazonaws.com")
    names = ('names: ["*.lake.example-cloud.eu"]', 'names: ["*.amazonaws.com"]')
    assert "a name many tenants share" in refused(at, names)[0].message
    assert read(at, names, ("agent: tap-egress, sees: sizes,   through: proxy-out", "agent: tap-egress, sees: sizes, feed: proxy-log"))
    own = ('at: "plant-north.lake.example-cloud.eu:443"', "at: plant-north.s3.eu-central-1.amazonaws.com")
    assert read(own, names)


def test_every_error_is_reported_in_file_order_and_not_the_first_alone() -> None:
    problems = refused(("keep: 7d", "keep: 181d"), ("who: svc_lake", "who: nobody"), ("at: 10.20.1.30", "at: 10.30.0.99"))
    assert [problem.line for problem in problems] == sorted(problem.line for problem in problems)
    assert {problem.subject for problem in problems} == {"historian", "extract-quality", "lake-upload"}


@pytest.mark.parametrize(
    ("day", "rule", "level"),
    [
        (date(2026, 5, 30), None, None),
        (date(2026, 5, 31), "expires-30", Level.WARNING),
        (date(2026, 6, 22), "expires-30", Level.WARNING),
        (date(2026, 6, 23), "expires-7", Level.WARNING),
        (date(2026, 6, 29), "expires-1", Level.WARNING),
        (date(2026, 6, 30), "expires-1", Level.WARNING),
        (date(2026, 7, 1), "expired", Level.FINDING),
    ],
)
def test_approval_warns_before_its_last_day_and_has_ended_after_it(day: date, rule: str | None, level: Level | None) -> None:
    problems = [problem for problem in loads(TEXT, at=day).problems if problem.path == ("hops", "acme-diagnose", "approved")]
    assert [(problem.rule, problem.level) for problem in problems] == ([] if rule is None else [(rule, level)])


@pytest.mark.parametrize(
    ("day", "said"),
    [
        (date(2026, 4, 4), []),
        (date(2026, 4, 5), ["exception quarter-reload was for 2026-04-04, 1 day ago, and loosens nothing any more; remove it"]),
    ],
)
def test_exception_whose_hours_are_over_is_a_warning_to_tidy_and_breaks_nothing(day: date, said: list[str]) -> None:
    problems = [problem for problem in loads(TEXT, at=day).problems if problem.rule == "past"]
    assert [problem.message for problem in problems] == said
    assert [(problem.level, problem.line) for problem in problems] == [(Level.WARNING, line_of(TEXT, "quarter-reload:"))] * len(said)


def test_exception_that_runs_past_midnight_is_over_when_its_hours_are() -> None:
    over_night = changed(("when: 2026-04-04 00:00-06:00", "when: 2026-04-04 22:00-06:00"))
    said = [[one for one in loads(over_night, at=date(2026, 4, day)).problems if one.rule == "past"] for day in (5, 6)]
    assert [len(problems) for problems in said] == [0, 1]


def test_overdue_review_is_one_finding_and_refuses_nothing() -> None:
    architecture = loads(changed(("until: 2026-12-31", "until: 2026-12-30")), at=date(2026, 9, 3))
    overdue = [problem for problem in architecture.problems if problem.path == ("review_by",)]
    assert [(problem.level, problem.line) for problem in overdue] == [(Level.FINDING, line_of(TEXT, "review_by:"))]


def test_hop_without_until_ends_with_the_review() -> None:
    architecture = read()
    assert architecture.hop_until(architecture.hops["mes-works"]) == architecture.review_by
    assert architecture.hop_until(architecture.hops["lake-upload"]) > architecture.review_by


def test_hop_without_transit_inherits_the_strictest_of_its_classes() -> None:
    architecture = read()
    assert architecture.hop_transit(architecture.hops["collect-tags"]) == "any"
    assert architecture.hop_transit(architecture.hops["ml-features"]) == "tls1.2"
    assert architecture.hop_transit(architecture.hops["mes-works"]) == "tls1.3"
