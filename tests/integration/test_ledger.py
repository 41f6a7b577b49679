"""The store's sums equal what the clients counted, exactly, for every way of moving data over real interfaces."""

import pytest

from examples.plant.watched import sums
from tests.integration.ways import WAYS, Watched


@pytest.mark.parametrize("name", WAYS)
def test_store_holds_exactly_what_the_clients_counted(watched: Watched, name: str) -> None:
    stored, counted = sums(watched.flows), watched.counted[name]
    for entry in counted.entries:
        told = {"rows": entry.rows, "messages": entry.messages, "values": entry.values, "bytes": entry.sent + entry.received}
        held = stored.get((entry.client, entry.server), {})
        wanted = {amount: told[amount] for amount in counted.compared}
        assert {amount: held.get(amount) for amount in counted.compared} == wanted, f"{entry.account} from {entry.client}"


def test_every_connection_of_a_client_is_stored_under_its_own_account(watched: Watched) -> None:
    stored = {(flow["source"]["port"], flow["destination"]["port"]): flow["account"] for flow in watched.flows if flow["account"]}
    for counted in watched.counted.values():
        for entry in counted.entries:
            ends = (entry.client[1], entry.server[1])
            assert entry.account in {stored.get(ends), stored.get(ends[::-1])}


def test_live_watch_loses_no_packet_of_the_day(watched: Watched) -> None:
    assert watched.watch.of("loss") == []
    assert watched.watch.errors == []
