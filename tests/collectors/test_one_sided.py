"""Half a mirror: each protocol is read as far as one direction goes, says so, and nothing is made up for the other."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from collectors import packets
from tests.collectors.frames import TCP, Frame, read, write

Json = dict[str, Any]  # Any: JSON values.
UNITS = ("rows", "values", "messages")


def from_server(frame: Frame) -> bool:
    return frame.ends is not None and frame.ends[0][4:] < frame.ends[1][4:]


def flows(frames: list[Frame], capture: Path) -> list[Json]:
    sensor = packets.sensor("plant", "tap")
    lines = [line for batch in packets.from_files(sensor, [str(write(capture, frames))]) for line in batch]
    events = [json.loads(line) for line in lines]
    assert [event for event in events if event["kind"] == "loss"] == []
    return [event for event in events if event["kind"] == "flow" and event["transport"] == "tcp"]


def amounts(seen: list[Json]) -> dict[tuple[str, str], Counter[str]]:
    """What moved, by protocol and operation."""
    sums: dict[tuple[str, str], Counter[str]] = {}
    for flow in seen:
        sums.setdefault((flow["protocol"], flow["operation"]), Counter()).update({unit: flow[unit] for unit in UNITS})
    return sums


def said(seen: list[Json]) -> set[tuple[str, str, str, tuple[str, ...]]]:
    """Who did what to which objects."""
    return {
        (flow["protocol"], flow["account"], flow["operation"], tuple(part["names"]))
        for flow in seen
        for part in flow["objects"]
        if flow["operation"] not in ("connect", "admin")
    }


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return read()


@pytest.fixture
def whole(frames: list[Frame], tmp_path: Path) -> list[Json]:
    return flows(frames, tmp_path / "whole.pcap")


@pytest.fixture
def client(frames: list[Frame], tmp_path: Path) -> list[Json]:
    return flows([frame for frame in frames if not (frame.protocol == TCP and from_server(frame))], tmp_path / "client.pcap")


@pytest.fixture
def server(frames: list[Frame], tmp_path: Path) -> list[Json]:
    return flows([frame for frame in frames if frame.protocol != TCP or from_server(frame)], tmp_path / "server.pcap")


def test_every_window_of_half_a_mirror_says_so(whole: list[Json], client: list[Json], server: list[Json]) -> None:
    assert not any(flow["completeness"]["one_sided"] for flow in whole)
    for half in (client, server):
        assert len({flow["connection"] for flow in half}) == len({flow["connection"] for flow in whole})
        assert all(flow["completeness"]["one_sided"] for flow in half)
        assert {flow["completeness"]["state"] for flow in half} == {"one-sided", "encrypted"}
        assert not any(flow["completeness"]["joined_late"] for flow in half)
        assert {flow["protocol"] for flow in half} == {flow["protocol"] for flow in whole}


def test_bytes_are_those_of_the_direction_that_is_seen(
    frames: list[Frame], whole: list[Json], client: list[Json], server: list[Json]
) -> None:
    def sent(seen: list[Json]) -> Counter[bool]:
        total: Counter[bool] = Counter()
        for flow in seen:
            forth = flow["source"]["port"] < flow["destination"]["port"]
            total[forth] += flow["bytes"]
            total[not forth] += flow["bytes_back"]
        return total

    assert sent(server) == Counter({True: sent(whole)[True], False: 0})
    assert sent(client) == Counter({True: 0, False: sent(whole)[False]})


def test_answers_alone_show_every_row_and_value(whole: list[Json], server: list[Json]) -> None:
    both, half = amounts(whole), amounts(server)
    for operation in ("copy", "insert"):
        assert half["postgresql", operation]["rows"] == both["postgresql", operation]["rows"] > 0
    # Rows of a statement that was not seen are a transfer.
    assert half["postgresql", "transfer"]["rows"] == both["postgresql", "select"]["rows"] > 0
    for operation in ("read", "history-read", "subscribe"):
        assert half["opcua", operation]["values"] == both["opcua", operation]["values"] > 0
    assert half["mqtt", "subscribe"]["messages"] == both["mqtt", "subscribe"]["messages"] > 0
    assert half["mqtt", "publish"]["messages"] == 0
    # Who asked is not in the answers.
    assert {flow["account"] for flow in server} == {None}


def test_questions_alone_show_who_asked_for_what_and_no_amount_that_was_not_seen(whole: list[Json], client: list[Json]) -> None:
    both, half = amounts(whole), amounts(client)
    assert half["mqtt", "publish"] == both["mqtt", "publish"]
    for protocol, operation in (("postgresql", "select"), ("postgresql", "copy"), ("postgresql", "insert")):
        assert half[protocol, operation]["messages"] == both[protocol, operation]["messages"] > 0
    assert all(flow["rows"] == 0 and flow["values"] == 0 for flow in client)
    names = {kind for kind in said(whole) if kind[0] == "postgresql"}
    assert {kind for kind in said(client) if kind[0] == "postgresql"} == names
    accounts = {(flow["protocol"], flow["account"]) for flow in whole if flow["account"]}
    assert {(flow["protocol"], flow["account"]) for flow in client if flow["account"]} == accounts
