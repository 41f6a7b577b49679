"""Between zones nothing is approved but what a hop says: every pair of zones and of assets, once each way."""

import ipaddress
from itertools import permutations

import pytest
from north import architecture, detector, end, extract, objects

from hopwatch.declared.model import Architecture

PLANT = architecture()
QUIET = ("declared", "declared-in-part", "service", "blind")
OUTSIDE = "192.0.2.200"
OPEN = {place for hop in PLANT.hops.values() for place in (*hop.from_, *hop.to) if place in PLANT.zones}
"""Zones of which a hop names any host: there the account decides."""


def host(plant: Architecture, zone: str | None) -> str:
    """An address of the zone at which nothing was declared; None is outside all zones."""
    return OUTSIDE if zone is None else str(ipaddress.ip_network(plant.zones[zone].nets[0])[5])


def verdict(source: tuple[str, int], destination: tuple[str, int], account: str = "svc_mw") -> tuple[str, str | None, str | None]:
    part = [objects("quality.inspection", columns=("lot", "result"), rows=10, bytes=900)]
    judged = detector(architecture=PLANT).observe(
        extract(source=end(source), destination=end(destination), account=account, objects=part, opened_by="destination")
    )[0]
    return judged.verdict, judged.severity, judged.hop


@pytest.mark.parametrize("source", [*PLANT.zones, None])
def test_no_pair_of_zones_is_open_to_hosts_that_no_hop_names(source: str | None) -> None:
    for destination in (*PLANT.zones, None):
        if source != destination:
            said, severity, hop = verdict((host(PLANT, source), 5432), (host(PLANT, destination), 50_001))
            leaves = destination is None or PLANT.zones[destination].off_site
            assert said not in QUIET, destination
            if not {source, destination} & OPEN:
                assert (said, severity, hop) == ("undeclared-destination" if leaves else "undeclared-hop", "critical", None), destination


def test_of_all_pairs_of_assets_in_two_zones_those_without_a_hop_are_never_quiet() -> None:
    joined = {frozenset((one, other)) for hop in PLANT.hops.values() for one in hop.from_ for other in hop.to}
    relays = {name for name, asset in PLANT.assets.items() if asset.relay}
    looked = 0
    for one, other in permutations(PLANT.assets, 2):
        here, there = PLANT.assets[one], PLANT.assets[other]
        zones = {frozenset((first, second)) for first in (one, here.zone) for second in (other, there.zone)}
        if here.zone == there.zone or joined & zones or {one, other} & relays:
            continue
        places = [PLANT.assets[name].at for name in (one, other)]
        addresses = [str(place.address) for place in places if place is not None and place.address is not None]
        if len(addresses) == 2:
            looked += 1
            assert verdict((addresses[0], 5432), (addresses[1], 50_001))[0] not in QUIET, (one, other)
    assert looked > 30


def test_whoever_reads_what_a_model_put_out_and_is_not_declared_is_found() -> None:
    assert verdict((str(PLANT.assets["ml"].at.address), 5432), ("10.50.0.9", 50_001), "h.keller")[0] == "undeclared-hop"
