"""The index answers by lookup: the longest prefix, the asset behind a port, the class of a name, the hops of two ends."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopwatch.declared.load import loads
from hopwatch.declared.match import Index, filter_covers, filters_overlap, glob
from hopwatch.declared.model import Architecture, Hop
from hopwatch.events import Name

TEXT = (Path(__file__).parents[2] / "examples" / "plant-north.yaml").read_text(encoding="utf-8")
PLANT = loads(TEXT)
INDEX = Index(PLANT)


def test_the_longest_prefix_is_the_zone() -> None:
    nested = Index(loads(TEXT.replace("nets: [10.50.0.0/16]", "nets: [10.50.0.0/16, 10.20.1.128/25, 2001:db8::/32]")))
    zones = [
        nested.zone(one)
        for one in (
            "10.20.1.127",
            "10.20.1.128",
            "::ffff:10.20.1.21",
            "2001:db8::7",
            "8.8.8.8",
            "no address",
            "10.20.1",
            "10.20.1.256",
            "10.20.1.-1",
        )
    ]
    assert zones == ["site-ops", "enterprise", "site-ops", "enterprise", None, None, None, None, None]


def test_an_asset_answers_at_its_port_and_its_host_is_known_at_every_port() -> None:
    assert (INDEX.end("10.20.1.21", 5432).asset, INDEX.end("10.20.1.21", 22).asset) == ("mes-db", None)
    assert INDEX.end("10.20.1.21", 22).host == "mes-db"
    assert INDEX.end("10.20.1.22", 5432).asset == "mes-db"
    assert INDEX.end("10.30.0.21", 41000).asset == "mw"


def test_only_a_confirmed_name_leads_to_an_asset() -> None:
    name = "plant-north.lake.example-cloud.eu"
    sni, dns = Name(name=name, by="sni"), Name(name=name.upper() + ".", by="dns")
    assert INDEX.end("192.0.2.9", 443, [sni]).asset is None
    assert INDEX.end("192.0.2.9", 443, [sni]).claimed == name
    assert INDEX.end("192.0.2.9", 443, [dns]).asset == "lake"
    assert INDEX.end("203.0.113.9", 443, [sni]).asset == "lake"
    assert INDEX.end("203.0.113.9", 444, [sni]).asset is None


def test_the_name_beside_an_encrypted_hello_approves_nothing() -> None:
    outer = Name(name="plant-north.lake.example-cloud.eu", by="outer-sni")
    met = INDEX.end("203.0.113.9", 443, [outer])
    assert (met.asset, met.zone, met.claimed) == (None, "lake-eu", outer.name)


@pytest.mark.parametrize(
    ("name", "port", "zone", "asset"),
    [
        ("plant-north.lake.example-cloud.eu", 443, "lake-eu", "lake"),
        ("plant-north.lake.example-cloud.eu", 22, "lake-eu", None),
        ("files.example-ai.com", 443, None, None),
        ("10.20.1.21", 5432, "site-ops", "mes-db"),
        ("10.20.1.21", 22, "site-ops", None),
        ("198.18.0.1", 443, None, None),
    ],
)
def test_what_a_relay_was_asked_for_is_the_destination_with_its_port(name: str, port: int, zone: str | None, asset: str | None) -> None:
    for by in ("connect", "absolute-form", "socks"):
        met = INDEX.end("10.30.0.40", 3128, [Name(name=name, by=by, port=port)])
        assert (met.zone, met.asset, met.name) == (zone, asset, name)
    # Who is no relay stays itself, whatever it is asked.
    assert INDEX.end("10.20.1.21", 5432, [Name(name=name, by="connect", port=port)]).asset == "mes-db"


def test_a_path_is_classed_by_its_globs() -> None:
    line = "  trends:     {class: production, in: [historian]}"
    assert line in TEXT
    index = Index(loads(TEXT.replace(line, '  trends:     {class: production, in: [historian], paths: ["/reports/*"]}')))
    assert index.classify("historian", "/reports/2026/scrap.csv").entries == {"trends"}
    assert index.classify("historian", "/admin").unclassified


def test_a_hop_joins_on_the_server_and_the_clients_zone_whatever_the_direction() -> None:
    server, client = INDEX.end("10.20.1.21", 5432), INDEX.end("10.30.0.99", 40000)
    assert INDEX.joined(server, client) == ["extract-quality"]
    assert INDEX.joined(server, INDEX.end("10.20.1.20", 40000)) == ["mes-works", "mes-writes"]
    assert INDEX.joined(server, INDEX.end("10.40.8.40", 40000)) == []


@pytest.mark.parametrize(
    ("asset", "name", "entries"),
    [
        ("mes-db", "mes.genealogy", {"genealogy"}),
        ("mes-db", "mes.other", set()),
        ("uns", "north/l1/telemetry/a/b", {"line-tags"}),
        ("uns", "south/l1/telemetry/a", set()),
        ("opc-l1", "ns=2;s=Line1/Telemetry/Deep.Er/Temp", {"line-tags"}),
        ("historian", "anything", {"trends"}),
        ("mw", "mes.genealogy", set()),
    ],
)
def test_a_name_is_classed_where_it_is_valid(asset: str, name: str, entries: set[str]) -> None:
    assert INDEX.classify(asset, name).entries == entries


def test_of_several_entries_the_highest_class_holds() -> None:
    index = Index(loads(TEXT.replace("tables: [mes.work_order, mes.routing_step]", "tables: [mes.*]")))
    assert index.classify("mes-db", "mes.genealogy").entries == {"genealogy"}
    assert index.classify("mes-db", "mes.genealogy").classes == {"production", "process_ip"}


def test_a_filter_is_classed_by_what_covers_it_and_by_the_highest_class_it_reaches() -> None:
    index = Index(loads(TEXT.replace('topics: ["north/+/oee/#", "north/+/state"]', 'topics: ["north/+/oee/#", "north/l1/#"]')))
    # Whole inside an entry, and in part inside another of the same file: nothing of it is unclassified.
    assert index.classify("uns", "north/+/oee/#").entries == {"uns-events"}
    assert index.classify("uns", "north/l1/#").entries == {"uns-events"}
    assert index.classify("uns", "north/l1/#").classes == {"production", "telemetry"}
    assert index.classify("uns", "north/#").unclassified


def test_a_column_glob_classes_the_column_in_every_table() -> None:
    assert INDEX.column_classes("mes-db", ["quality.inspection"], ["lot", "operator_id"]) == {"operator"}
    assert INDEX.column_classes("mes-db", ["quality.inspection"], ["lot"]) == set()
    assert INDEX.column_classes("mes-db", ["quality.inspection"], ["*"]) == {"operator"}


def test_an_account_is_found_by_its_name_or_a_glob_of_its_identities() -> None:
    assert [INDEX.account(one) for one in ("svc_mw", "certificate:CN=edge-7", "certificate:CN=hedge-7", None)] == [
        "svc_mw", "svc_edge", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "other", "covers"),
    [
        ("a/#", "a", True), ("a/#", "a/b/c", True), ("a/+", "a/b", True), ("a/+", "a/b/c", False), ("a/+", "a/#", False),
        ("#", "$SYS/x", False),
        ("a/+/c", "a/+/c", True), ("a/b", "a/+", False), ("+/b", "$SYS/b", False), ("a", "a/b", False), ("a/b", "a", False),
    ],
)  # fmt: skip
def test_a_filter_covers_what_every_topic_of_the_other_matches(pattern: str, other: str, covers: bool) -> None:
    assert filter_covers(pattern, other) is covers


LEVELS = st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=4).flatmap(
    lambda levels: st.sampled_from(["/".join(levels), "/".join([*levels, "#"])])
)


@given(LEVELS, LEVELS, st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=5).map("/".join))
def test_covering_and_overlapping_agree_with_every_topic(one: str, other: str, topic: str) -> None:
    if filter_covers(one, other) and filter_covers(other, topic):
        assert filter_covers(one, topic)
    if filter_covers(one, topic) and filter_covers(other, topic):
        assert filters_overlap(one, other)


def test_a_star_crosses_dots_and_slashes_and_nothing_else_is_special() -> None:
    assert glob("*.operator_id")("a.b.operator_id")
    assert not glob("a.c")("abc")
    assert not glob("[ab]*")("a")


def many(hops: int) -> Architecture:
    """The plant with hops of as many assets in as many networks."""
    zones = {f"z{n}": PLANT.zones["cell-1"].model_copy(update={"nets": []}) for n in range(2)}
    assets, made = dict(PLANT.assets), {}
    base: Hop = PLANT.hops["mes-works"]
    mes_db = PLANT.assets["mes-db"]
    for n in range(hops):
        endpoint = type(mes_db.endpoints[0])(f"10.20.{n >> 8 & 3}.{n & 255}", 6000 + n)
        assets[f"db{n}"] = mes_db.model_copy(update={"at": endpoint, "standby": []})
        made[f"hop{n}"] = base.model_copy(update={"from_": [f"db{n}"]})
    return PLANT.model_copy(update={"assets": assets, "hops": made, "zones": PLANT.zones | zones})


@pytest.mark.parametrize("hops", [10, 1_000, 10_000])
def test_a_lookup_visits_only_the_hops_that_join_however_many_there_are(hops: int) -> None:
    index = Index(many(hops))
    for n in (0, hops // 2, hops - 1):
        server = index.end(f"10.20.{n >> 8 & 3}.{n & 255}", 6000 + n)
        assert index.joined(server, index.end("10.20.1.20", 50000)) == [f"hop{n}"]
    assert index.visited_total == 3
