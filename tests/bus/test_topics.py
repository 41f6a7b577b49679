"""Names, keys and headers of messages."""

import pytest

from hopwatch.bus.topics import EVERY_SHARD, TOGETHER, TOPICS, between, headers, keys, kind_of, topic_name
from hopwatch.events import dump
from tests.detectors.north import end, flow


def test_every_topic_is_known_again_by_its_name_with_and_without_a_prefix() -> None:
    for kind in TOPICS:
        assert kind_of(topic_name(kind)) == kind_of(topic_name(kind, "north.")) == kind
    assert kind_of("hopwatch.other.v1") is None
    assert kind_of("hopwatch.flow.v2") is None


def test_what_a_detector_reads_together_has_one_number_of_partitions() -> None:
    assert len({TOPICS[kind].partitions for kind in TOGETHER}) == 1


def test_only_the_declarations_are_compacted() -> None:
    assert [kind for kind, topic in TOPICS.items() if topic.cleanup == "compact"] == ["declared"]


def test_the_key_is_the_plant() -> None:
    assert keys("flow", "north", "77b0") == keys("loss", "north") == keys("finding", "north") == [b"north"]


def line(source: str, destination: str, port: int = 50_000) -> bytes:
    ends = {"source": end((source, 5432)), "destination": end((destination, port))}
    return dump(flow(**ends, account='svc "source":{"address":"10.9.9.9"', operation="select"))


def test_every_view_of_a_connection_and_the_logins_of_its_address_meet_in_one_shard() -> None:
    ends = between(line("10.20.1.21", "10.30.0.20"))
    assert ends == between(line("10.30.0.20", "10.20.1.21")) == between(line("10.20.1.21", "10.30.0.20", 0)) == "10.20.1.21|10.30.0.20"
    shards = {keys("flow", "north", between(line("10.20.1.21", f"10.40.8.{number}")), 4)[0] for number in range(100)}
    assert shards == {b"north/0", b"north/1", b"north/2", b"north/3"}
    assert between(b"{}") is None
    assert between(b'{"source": {"address": "fd00::1", "port": 1}, "destination": {"address": "fd00::2"}}') == "fd00::1|fd00::2"


@pytest.mark.parametrize("kind", EVERY_SHARD)
def test_what_concerns_the_whole_plant_goes_to_every_shard(kind: str) -> None:
    assert keys(kind, "north", None, 3) == [b"north/0", b"north/1", b"north/2"]
    assert keys("finding", "north", None, 3) == [b"north"]


def test_a_flow_without_its_ends_has_no_shard() -> None:
    with pytest.raises(ValueError, match="addresses"):
        keys("flow", "north", None, 3)


def test_headers_are_the_attributes_of_cloudevents_in_binary_mode() -> None:
    line = b'{"kind": "flow", "start": "2026-04-07T10:42:07Z", "account": "a\\"end\\":\\"x", "end": "2026-04-07T10:42:08.5Z"}'
    assert dict(headers("flow", "werk süd", "9f2c", "agents/tap-idmz", line)) == {
        "content-type": "application/json",
        "ce_specversion": "1.0",
        "ce_type": "hopwatch.flow.v1",
        "ce_source": "/plants/werk%20s%C3%BCd/agents/tap-idmz",
        "ce_id": "9f2c",
        "ce_time": b"2026-04-07T10:42:08.5Z",
    }
    assert "ce_time" not in dict(headers("flow", "north", "9f2c", "agents/a", b"{}"))
