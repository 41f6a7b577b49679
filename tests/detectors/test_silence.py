"""What is not seen is said; nothing is concluded from what nobody watched."""

from moves import DAY_NS, HOUR_NS, QUOTED, later, moved
from north import NIGHT, architecture, extract, upload

from detectors.silence import AGENT_QUIET_S, BYTES_MIN, UNSEEN_DAYS, Silence
from hopwatch.events import Finding, Heartbeat, Loss, time_ns, time_text

START_NS = time_ns(NIGHT)
SECOND_NS = 10**9


def watch() -> Silence:
    return Silence(architecture(), QUOTED)


def beat(agent: str, at_ns: int) -> Heartbeat:
    return Heartbeat(event_id=f"{agent}{at_ns}", plant="north", agent=agent, time=time_text(at_ns))


def names(found: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.verdict, finding.source) for finding in found]


def test_an_agent_without_a_word_is_silent_after_some_heartbeats_and_said_once() -> None:
    detector = watch()
    detector.lives(beat("tap-l3", START_NS))
    at_ns = START_NS + AGENT_QUIET_S * SECOND_NS
    assert list(detector.advance(at_ns)) == []
    assert names(list(detector.advance(at_ns + SECOND_NS))) == [("agent-silent", "tap-l3")]
    assert list(detector.advance(at_ns + 60 * SECOND_NS)) == []


def test_an_agent_that_is_back_can_fall_silent_again() -> None:
    detector = watch()
    detector.lives(beat("tap-l3", START_NS))
    detector.advance(START_NS + 120 * SECOND_NS)
    detector.lives(beat("tap-l3", START_NS + 200 * SECOND_NS))
    assert list(detector.advance(START_NS + 210 * SECOND_NS)) == []
    assert names(list(detector.advance(START_NS + 300 * SECOND_NS))) == [("agent-silent", "tap-l3")]


def test_an_agent_that_no_conduit_names_may_come_and_go() -> None:
    detector = watch()
    detector.lives(beat("laptop", START_NS))
    assert list(detector.advance(START_NS + DAY_NS)) == []


def watched(detector: Silence, days: int, *, agent: str = "tap-l3", alive: bool = True, from_ns: int = START_NS) -> list[Finding]:
    found: list[Finding] = []
    for hour in range(days * 24):
        at_ns = from_ns + hour * HOUR_NS
        if alive:
            detector.lives(beat(agent, at_ns))
        found += detector.advance(at_ns)
    return found


def test_a_hop_without_traffic_is_unseen_after_thirty_watched_days() -> None:
    detector = watch()
    assert [one for one in names(watched(detector, UNSEEN_DAYS)) if one[0] == "unseen"] == []
    found = names(watched(detector, 2, from_ns=START_NS + UNSEEN_DAYS * DAY_NS))
    assert ("unseen", "collect-tags") in found
    # Other agents said nothing, so nothing is known of their conduits.
    assert ("unseen", "extract-quality") not in found


def test_days_in_which_the_agent_was_silent_do_not_count_as_watched() -> None:
    detector = watch()
    watched(detector, UNSEEN_DAYS - 1)
    watched(detector, 20, alive=False, from_ns=START_NS + (UNSEEN_DAYS - 1) * DAY_NS)
    found = watched(detector, 1, from_ns=START_NS + (UNSEEN_DAYS + 19) * DAY_NS)
    assert "unseen" not in [verdict for verdict, _ in names(found)]


def test_a_hop_that_is_used_is_not_unseen() -> None:
    detector = watch()
    used = moved(extract())
    for day in range(UNSEEN_DAYS + 5):
        watched(detector, 1, agent="tap-idmz", from_ns=START_NS + day * DAY_NS)
        detector.observe(later(used, day * DAY_NS))
    found = names(watched(detector, 1, agent="tap-idmz", from_ns=START_NS + (UNSEEN_DAYS + 5) * DAY_NS))
    assert ("unseen", "extract-quality") not in found


def test_a_conduit_whose_agent_was_never_heard_of_is_unwatched_after_a_day_and_said_once() -> None:
    detector = watch()
    assert [one for one in names(watched(detector, 1)) if one[0] == "unwatched"] == []
    found = [one for one in names(watched(detector, 3, from_ns=START_NS + DAY_NS)) if one[0] == "unwatched"]
    # tap-l3 lives; every other conduit has another agent, and the two hops inside a zone have tap-l3.
    assert found == [("unwatched", f"conduit {name}") for name in ("c-edge", "c-ops", "c-ml", "c-lake", "c-acme")]


def test_a_conduit_that_was_watched_again_can_be_unwatched_again() -> None:
    detector = watch()
    watched(detector, 1)
    quiet = watched(detector, 2, alive=False, from_ns=START_NS + DAY_NS)
    assert ("unwatched", "conduit c-cells") in names(quiet)
    watched(detector, 1, from_ns=START_NS + 3 * DAY_NS)
    again = names(watched(detector, 2, alive=False, from_ns=START_NS + 4 * DAY_NS))
    assert again.count(("unwatched", "conduit c-cells")) == 1


def loss(lost: int) -> Loss:
    return Loss(event_id="1", plant="north", agent="tap-idmz", stage="kernel", start=NIGHT, end=NIGHT, packets=9, bytes=lost)


def test_a_day_that_lost_more_than_a_hundredth_is_said_when_it_is_over() -> None:
    for lost, said in ((BYTES_MIN * 3, [("loss", "tap-idmz")]), (BYTES_MIN // 2, [])):
        detector = watch()
        window = moved(extract(), bytes=100 * BYTES_MIN)
        detector.observe(window)
        detector.blind(loss(lost))
        assert names(list(detector.observe(later(window, DAY_NS)))) == said


def test_a_conduit_seen_less_deep_than_it_promises_is_said_by_its_share() -> None:
    detector = watch()
    shallow = moved(extract()).but(bytes=20 * BYTES_MIN, flow=extract(depth="sizes"))
    deep = moved(extract()).but(bytes=80 * BYTES_MIN, flow=extract(depth="server-log"))
    for window in (shallow, deep):
        detector.observe(window)
    (finding,) = detector.observe(later(deep, DAY_NS))
    assert (finding.verdict, finding.source) == ("shallow", "c-ops")
    assert finding.differences[0].declared == "c-ops sees server-log"
    assert finding.differences[0].observed.startswith("20% of ")


def test_a_conduit_that_promises_sizes_may_be_sizes() -> None:
    detector = watch()
    window = moved(upload(), bytes=80 * BYTES_MIN)
    detector.observe(window)
    assert list(detector.observe(later(window, DAY_NS))) == []
