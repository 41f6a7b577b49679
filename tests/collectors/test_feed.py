"""What a feed is told, and what is refused in one line."""

from pathlib import Path

import pytest

from collectors.feed import FeedError, Told
from hopwatch.config import AgentSettings, ConfigError
from hopwatch.feeds import KINDS, Feeds, kind, state_of


@pytest.mark.parametrize(
    ("text", "told", "server"),
    [
        ("postgresql-log:db=10.20.1.21:5432=/a/*.json", ("db", "10.20.1.21:5432=/a/*.json"), ("10.20.1.21", 5432, "/a/*.json")),
        ("postgresql-log:10.20.1.21:5432=/a=b.csv", ("tap-2", "10.20.1.21:5432=/a=b.csv"), ("10.20.1.21", 5432, "/a=b.csv")),
        ("postgresql-log:db=[fd00::1]:5432=x", ("db", "[fd00::1]:5432=x"), ("fd00::1", 5432, "x")),
    ],
)
def test_a_feed_is_told_its_kind_its_name_and_where_it_is(text: str, told: tuple[str, str], server: tuple[str, int, str]) -> None:
    read = Told.of(text, "tap-2")
    assert (read.kind, read.feed, read.where) == ("postgresql-log", *told)
    assert read.server() == server


def test_options_stand_behind_a_question_mark() -> None:
    told = Told.of("mqtt-broker:broker=mqtts://10.3.0.5:8883?user=hopwatch&password_file=/run/p=1", "tap-2")
    assert (told.where, told.options) == ("mqtts://10.3.0.5:8883", {"user": "hopwatch", "password_file": "/run/p=1"})
    assert told.only("user", "password_file") is told
    with pytest.raises(FeedError, match="unknown option 'password_file', expected user"):
        told.only("user")


def test_a_question_mark_of_a_pattern_is_no_option() -> None:
    assert Told.of("squid:proxy=10.1.1.1:3128=/var/log/squid/access.log.?", "a").where.endswith("log.?")


@pytest.mark.parametrize("text", ["", "postgresql-log", "postgresql-log:", "=x", "x:y?a=1&a=2"])
def test_what_is_no_feed_is_refused(text: str) -> None:
    with pytest.raises(FeedError, match=r"expected KIND:\[FEED=\]WHERE|said twice"):
        Told.of(text, "a")


@pytest.mark.parametrize("where", ["/a/*.json", "10.20.1.21=/a", "log=mes-db:5432=/a", "10.20.1.21:99999=/a", "10.20.1.21:5432="])
def test_a_log_without_the_servers_address_is_refused(where: str) -> None:
    with pytest.raises(FeedError, match=r"expected \[FEED=\]ADDRESS:PORT=PATH"):
        Told.of(f"postgresql-log:{where}", "a").server()


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_can_be_loaded(name: str) -> None:
    assert callable(kind(Told.of(f"{name}:a=b", "a")).of)


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(FeedError, match=r"feed postgres: expected one of .*postgresql-log"):
        Feeds(AgentSettings(feeds=["postgres:a=b"]), "north", "1")


def test_two_feeds_that_would_keep_one_place_are_refused(tmp_path: Path) -> None:
    feeds = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.log").write_text("1795330000: mosquitto version 2.0.11 starting\n")
        feeds.append(f"mosquitto-log:broker=10.3.0.5:8883={tmp_path}/{name}.log")
    assert len(Feeds(AgentSettings(feeds=feeds[:1], feeds_state=tmp_path / "place"), "north", "1")) == 1
    with pytest.raises(ConfigError, match="there is one of this kind, name and place already"):
        Feeds(AgentSettings(feeds=feeds, feeds_state=tmp_path / "place"), "north", "1")


def test_two_servers_under_one_name_keep_their_places_apart() -> None:
    places = {state_of(Path("s"), Told.of(f"postgresql-log:db=10.0.0.{n}:5432=/x", "a")) for n in (1, 2)}
    assert len(places) == 2
