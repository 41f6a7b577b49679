"""Budgets over several hops, limits of distinct objects, endings, tickets and relays: both sides of each."""

from datetime import date
from random import Random

import pytest
from north import (
    LAKE,
    LAKE_NAME,
    MES_APP,
    MES_DB,
    MW,
    NIGHT,
    NOON,
    UPLOAD,
    architecture,
    detector,
    end,
    extract,
    judge,
    mes,
    objects,
    upload,
)  # fmt: skip

from detectors.budget import BUCKETS, Budget
from detectors.judgement import Judgement
from detectors.verdict import VerdictDetector

MIB = 2**20
PROXY = ("10.30.0.40", 3128)
MANY_A_DAY = ("limit: [200k rows / 1h, 400k rows / 1d, 300 MiB / 1d]", "limit: 9M rows / 1h")


def rows(count: int, table: str = "quality.inspection") -> list[object]:
    return [objects(table, columns=("lot",), rows=count)]


def said(judgement: Judgement, question: str) -> list[str]:
    return [f"{one.declared}: {one.observed}" for one in judgement.differences if one.question == question]


# Budgets


@pytest.mark.parametrize("seed", range(20))
def test_a_sum_that_slides_is_the_sum_taken_anew(seed: int) -> None:
    print(f"seed {seed}")
    random, budget, width = Random(seed), Budget(), BUCKETS + 1
    slot = 1_000
    for _ in range(600):
        # Time goes on by a minute mostly; now and then it rests, jumps, comes late or from a clock far ahead.
        slot += random.choice((0, 1, 1, 1, 1, 2, 9, 70))
        asked = slot + random.choice((0,) * 12 + (-3, -50, 40, 300))
        assert budget.used(asked, width) == Budget(dict(budget.spent)).used(asked, width)
        budget.charge(asked, random.randrange(1, 100))


def ticket(may: str) -> tuple[str, str]:
    repair = f"repair: {{account: dba, asset: mes-db, may: [{may}], when: 2026-04-07 00:00-24:00, ticket: CHG-9, by: a.ruiz}}"
    return "exceptions:", f"exceptions:\n  {repair}\n# "


def test_the_hops_of_one_owner_share_his_budget_to_the_last_row() -> None:
    # A second hop of another account of the owner, to the same host.
    second = (
        "  lake-upload:\n    who: svc_lake",
        "  mes-copy:\n    {who: svc_two, from: mes-db, to: mw, via: c-ops, may: [select], what: [orders], limit: 9M rows / 1h,\n"
        '     keep: 7d, why: orders, approved: {by: a.ruiz, ticket: CHG-1}, without: ["*.operator_name"]}\n'
        "  lake-upload:\n    who: svc_lake",
    )
    account = (
        "  svc_lake: {kind",
        "  svc_two: {kind: service, owner: integration, from: [mw], auth: scram-sha-256}\n  svc_lake: {kind",
    )
    watching = VerdictDetector(architecture(limit=MANY_A_DAY, second=second, account=account))
    assert watching.observe(extract(objects=rows(1_500_000)))[0].verdict == "declared"
    order = {"account": "svc_two", "application": None}
    assert watching.observe(extract(**order, objects=rows(500_000, "mes.work_order")))[0].verdict == "declared"
    (judgement,) = watching.observe(extract(**order, n=1, objects=rows(1, "mes.work_order")))
    assert (judgement.verdict, judgement.hop) == ("over-limit", "mes-copy")
    assert said(judgement, "how_much") == ["all hops of owner integration: 2M rows / 1d: 2000001 rows, 1.0 x"]
    # Another owner's hop moves as before, and the plant's next day begins at its midnight.
    assert watching.observe(mes(objects=rows(400_000, "mes.work_order")))[0].verdict == "declared"
    assert watching.observe(extract(n=2, at="2026-04-08T00:00:00Z", objects=rows(1)))[0].verdict == "declared"


def test_hops_under_their_own_limits_add_up_to_the_budget_of_a_class_and_destination() -> None:
    again = (
        "  lake-again:\n    {who: svc_lake, from: mw, to: lake, via: c-lake, may: [put], what: [inspection], limit: 900 MiB / 1d,\n"
        '     keep: 90d, without: ["*.operator_name", "*.operator_id"], protect: {at_rest: customer-key}, why: again,\n'
        "     approved: {by: h.keller, ticket: CHG-2, until: 2026-12-31}}\n  ml-features:"
    )
    watching = VerdictDetector(architecture(again=("  ml-features:", again)))
    seen = [watching.observe(upload(n=n, bytes=size))[0] for n, size in enumerate((150 * MIB, 150 * MIB, 1))]
    assert [(one.verdict, one.hop) for one in seen] == [
        ("declared-in-part", "lake-upload"), ("declared-in-part", "lake-again"), ("over-limit", "lake-upload"),
    ]  # fmt: skip
    assert "all hops with quality to off-site: 300 MiB / 1d: 314572801 bytes, 1.0 x" in said(seen[2], "how_much")
    budget = architecture(limit=("limit: 250 MiB / 1d", "limit: 900 MiB / 1d"))
    watching = VerdictDetector(budget)
    verdicts = [watching.observe(upload(n=n, bytes=size))[0] for n, size in enumerate((300 * MIB, 1))]
    assert [one.verdict for one in verdicts] == ["declared-in-part", "over-limit"]
    assert said(verdicts[1], "how_much") == ["all hops with quality to off-site: 300 MiB / 1d: 314572801 bytes, 1.0 x"]


@pytest.mark.parametrize(("period", "last_at", "next_at"), [
    ("1h", "2026-04-07T00:45:00Z", "2026-04-07T00:47:00Z"), ("1d", "2026-04-07T00:59:00Z", "2026-04-07T23:45:00Z"),
])  # fmt: skip
def test_a_limit_of_distinct_objects_counts_each_once_and_frees_them_with_its_period(period: str, last_at: str, next_at: str) -> None:
    what = ("tables: [quality.inspection, quality.defect]", "tables: [quality.*]")
    watching = VerdictDetector(architecture(what=what, limit=(MANY_A_DAY[0], f"limit: 3 objects / {period}")))

    def read(n: int, *names: str, at: str = "2026-04-06T23:45:00Z") -> str:
        part = [objects(f"quality.{name}", columns=("lot",), rows=1) for name in names]
        return watching.observe(extract(n=n, at=at, objects=part))[0].verdict

    assert [read(0, "a", "b"), read(1, "a", "b"), read(2, "c"), read(3, "c", "a")] == ["declared"] * 4
    (over,) = watching.observe(extract(n=4, at="2026-04-06T23:46:00Z", objects=rows(1, "quality.d")))
    assert (over.verdict, said(over, "how_much")) == ("over-limit", [f"3 objects / {period}: 4 objects, 1.3 x"])
    assert [read(5, "e", at=last_at), read(6, "e", "f", "g", at=next_at)] == ["over-limit", "declared"]


# Endings


def test_an_account_past_its_last_day_has_expired_whatever_its_hop_says() -> None:
    # The file itself would refuse a hop that outlives the account; an exception can.
    def worked(expires: str) -> Judgement:
        plant = architecture(ticket=ticket("select"), dba=("needs: ticket}", f"needs: ticket, expires: {expires}}}"))
        return judge(extract(destination=end(("10.20.1.5", 50300)), account="dba", application=None, at=NOON), architecture=plant)

    assert worked("2026-04-07").verdict == "declared"
    late = worked("2026-04-06")
    assert (late.verdict, late.severity, said(late, "who")) == ("expired", "medium", ["dba until 2026-04-06: 2026-04-07"])
    assert worked("2026-03-01").severity == "high"


def test_a_vendors_account_expires_with_its_hop() -> None:
    read = {"source": end(("10.10.2.10", 4840)), "destination": end(("198.51.100.18", 50000)), "account": "certificate:CN=acme-7"}
    shown = [judge(extract(**read, at=at, operation="read", protocol="opcua", application=None)) for at in
             ("2026-06-30T07:00:00Z", "2026-07-07T07:00:00Z")]  # fmt: skip
    assert [any(one.declared.startswith("acme until") for one in each.differences) for each in shown] == [False, True]


@pytest.mark.parametrize(
    ("at", "verdict", "terms"), [("2026-12-31", "declared-in-part", 0), ("2027-01-31", "expired", 0), ("2027-02-01", "expired", 1)]
)
def test_past_the_vendors_terms_what_goes_there_has_expired(at: str, verdict: str, terms: int) -> None:
    judgement = judge(upload(at=f"{at}T02:30:00Z"))
    assert judgement.verdict == verdict
    assert [one for one in said(judgement, "when") if "terms VND-031 of lake-eu until 2027-01-31" in one] == [
        f"terms VND-031 of lake-eu until 2027-01-31: {at}"
    ] * terms
    assert judgement.severity == (None if verdict != "expired" else "high" if terms else "high" if at == "2027-01-31" else "medium")


def test_past_the_terms_alone_is_high() -> None:
    # The terms were cut short in an edition that nobody could load; their end still counts on the wire.
    plant = architecture()
    zone = plant.zones["lake-eu"]
    terms = zone.terms.model_copy(update={"until": date(2026, 4, 6)})  # type: ignore[union-attr]
    ended = plant.model_copy(update={"zones": plant.zones | {"lake-eu": zone.model_copy(update={"terms": terms})}})
    assert (judge(upload(), architecture=ended).verdict, judge(upload(), architecture=ended).severity) == ("expired", "high")


# What a ticket loosens, and what it never does

QUARTER = "2026-04-03T22:30:00Z"
MONTH_END = "2026-04-30T17:00:00Z"


def test_under_an_exception_neither_account_destination_class_nor_operation_is_looser() -> None:
    assert judge(extract(at=QUARTER)).verdict == "declared"
    assert judge(extract(at=QUARTER, account="svc_ml")).verdict == "undeclared-account"
    assert judge(extract(at=QUARTER, destination=end(("10.30.0.99", 50002)))).verdict == "undeclared-account"
    assert judge(extract(at=QUARTER, destination=end(("10.40.8.40", 50002)))).verdict == "undeclared-hop"
    assert judge(extract(at=QUARTER, objects=rows(1, "mes.genealogy"))).verdict == "undeclared-data"
    assert (
        judge(extract(at=QUARTER, operation="delete", source=end(MW), destination=end(MES_DB), opened_by="source")).verdict
        == "unapproved-operation"
    )
    assert judge(extract(at=QUARTER, protection={"transport": "none"})).verdict == "under-protected"
    assert judge(extract(at=QUARTER, objects=rows(5_000_001))).verdict == "over-limit"


def test_in_a_calendar_lines_hours_neither_account_destination_nor_class_is_looser() -> None:
    assert judge(mes(at=MONTH_END, objects=rows(1_500_000, "mes.work_order"))).verdict == "declared"
    assert judge(mes(at=MONTH_END, objects=rows(1_500_001, "mes.work_order"))).verdict == "over-limit"
    assert judge(mes(at=MONTH_END, account="svc_mw")).verdict == "undeclared-account"
    assert judge(mes(at=MONTH_END, destination=end(("10.50.0.9", 50001)))).verdict == "undeclared-hop"
    assert judge(mes(at=MONTH_END, objects=rows(1, "mes.nobody_classed_me"))).verdict == "undeclared-data"


def test_a_calendar_line_loosens_the_hours_of_its_hop_and_ends_with_its_until_or_the_review() -> None:
    line = ("hops: [mes-works], limit: 3x, ticket: CHG-4405}", "hops: [extract-quality], ticket: CHG-4405}")
    until = (line[0], "hops: [extract-quality], ticket: CHG-4405, until: 2026-04-29}")
    evening = {"at": MONTH_END, "objects": rows(200_000)}
    assert judge(extract(**evening)).verdict == "outside-window"
    assert judge(extract(**evening), architecture=architecture(line=line)).verdict == "declared"
    assert judge(extract(**evening), architecture=architecture(line=until)).verdict == "outside-window"
    assert judge(extract(at=MONTH_END, objects=rows(200_001)), architecture=architecture(line=line)).verdict == "over-limit"
    after_review = "2026-09-30T17:00:00Z"
    assert judge(extract(at=after_review), architecture=architecture(line=line)).verdict == "outside-window"


@pytest.mark.parametrize(("at", "after"), [(QUARTER, "2026-04-04T23:30:00Z"), (MONTH_END, "2026-04-30T23:30:00Z")])
def test_what_moves_under_a_ticket_charges_neither_a_budget_nor_the_limit_afterwards(at: str, after: str) -> None:
    line = ("hops: [mes-works], limit: 3x", "hops: [extract-quality], limit: 10x")
    budget = ("{owner: integration, limit: 2M rows / 1d}", "{owner: integration, limit: 150k rows / 1d}")
    watching = VerdictDetector(architecture(line=line, budget=budget))
    assert watching.observe(extract(at=at, objects=rows(1_900_000)))[0].verdict == "declared"
    assert watching.observe(extract(n=1, at=after, objects=rows(150_000)))[0].verdict == "declared"
    assert watching.observe(extract(n=2, at=after, objects=rows(1)))[0].verdict == "over-limit"


def test_a_ticket_opens_no_role_no_application_no_cleartext_and_no_new_account() -> None:
    tools = ("auth: scram-sha-256, needs: ticket}", 'auth: scram-sha-256, needs: ticket, applications: ["pgadmin*"], roles: [reader]}')
    plant = architecture(ticket=ticket("select, admin"), tools=tools)
    base = {"destination": end(("10.20.1.5", 50300)), "account": "dba", "application": "pgadmin 4", "at": NOON}

    def worked(**changed: object) -> tuple[str, str | None]:
        judgement = judge(extract(**base | changed), architecture=plant)
        return judgement.verdict, judgement.hop

    assert worked() == ("declared", None)
    assert worked(role="reader") == ("declared", None)
    for changed, verdict in (
        ({"role": "owner"}, "undeclared-account"),
        ({"application": "psql"}, "undeclared-account"),
        ({"destination": end(("10.20.1.6", 50300))}, "undeclared-account"),
        ({"operation": "admin", "objects": [objects("account:new", columns=("create",))]}, "undeclared-account"),
        ({"operation": "update"}, "unapproved-operation"),
        ({"protection": {"transport": "none", "authentication": "scram-sha-256"}}, "under-protected"),
        ({"protection": {"transport": "tls1.3", "authentication": "md5"}}, "under-protected"),
        ({"objects": [objects("mes.recipe_master_2019", rows=1)]}, "decoy"),
        ({"objects": [objects("unknown", rows=9)]}, "blind"),
    ):
        assert worked(**changed)[0] == verdict, changed


# Relays


def legs(n: int, size: int) -> tuple[object, object]:
    """Both legs of an upload through the proxy, whose request named nothing."""
    return (
        upload(n=n, key="in", destination=end(PROXY), bytes=size),
        upload(n=n, key="out", source=end((PROXY[0], 50900)), bytes=size),
    )


def test_without_a_name_asked_the_legs_join_the_hops_through_the_relay() -> None:
    first, second = (judge(leg) for leg in legs(0, 1_000))
    assert (first.verdict, first.hop, first.checked["where"], first.checked["who"]) == (
        "declared-in-part", "lake-upload", "assumed", "assumed",
    )  # fmt: skip
    assert (second.verdict, second.hop, second.checked["where"], second.checked["who"]) == (
        "declared-in-part", "lake-upload", "checked", "assumed",
    )  # fmt: skip
    # The client before the relay is still compared, and who dials on behalf of nobody declared is not hidden by it.
    assert judge(upload(source=end(("10.30.0.99", 50002)), destination=end(PROXY))).verdict == "undeclared-account"
    assert judge(upload(source=end((PROXY[0], 50900)), destination=end(("192.0.2.200", 443)))).verdict == "undeclared-destination"


def test_a_conduit_through_what_is_no_relay_joins_nothing_there() -> None:
    plain = architecture(relay=('at: "10.30.0.40:3128", relay: true', 'at: "10.30.0.40:3128"'))
    assert judge(legs(0, 1_000)[0], architecture=plain).verdict == "undeclared-hop"


@pytest.mark.parametrize("named", [False, True])
def test_both_legs_of_a_relay_charge_the_hop_once(named: bool) -> None:
    watching = detector()

    def through(n: int, size: int) -> list[str]:
        first, second = legs(n, size)
        if named:
            first = first.model_copy(update={"destination": upload(destination=end(PROXY, (LAKE_NAME, "connect"))).destination})
        return [watching.observe(leg)[0].verdict for leg in (first, second)]

    assert through(0, 200 * MIB) == ["declared-in-part"] * 2
    assert through(1, 50 * MIB) == ["declared-in-part"] * 2
    assert through(2, 1) == ["over-limit"] * 2


def test_the_larger_leg_is_what_both_charge() -> None:
    watching = detector()
    small, large = legs(0, 100 * MIB)[0], legs(0, 249 * MIB)[1]
    assert [watching.observe(leg)[0].verdict for leg in (small, large)] == ["declared-in-part"] * 2
    assert watching.observe(upload(n=1, bytes=MIB))[0].verdict == "declared-in-part"
    assert watching.observe(upload(n=2, bytes=1))[0].verdict == "over-limit"


def test_the_relays_own_leg_names_the_hidden_client() -> None:
    outward = judge(upload(source=end((PROXY[0], 50900)), bytes=900 * MIB, at=UPLOAD, destination=end(LAKE, (LAKE_NAME, "dns"))))
    assert outward.finding is not None and outward.finding.client == "client hidden by proxy-out (10.30.0.40)"
    named = judge(upload(destination=end(PROXY, (LAKE_NAME, "connect")), bytes=900 * MIB))
    assert named.finding is not None and named.finding.client == f"mw ({MW[0]})"
    direct = judge(upload(bytes=900 * MIB))
    assert direct.finding is not None and direct.finding.client == f"mw ({MW[0]})"


def test_mes_writes_are_charged_to_the_hop_that_runs_their_way() -> None:
    there = {"source": end(MES_APP), "destination": end(MES_DB), "opened_by": "source", "operation": "insert"}
    write = mes(**there, objects=rows(100_000, "mes.work_order"))
    watching = detector()
    assert watching.observe(write)[0].hop == "mes-writes"
    assert watching.observe(mes(n=1, at=NIGHT, objects=rows(500_000, "mes.work_order")))[0].verdict == "declared"
