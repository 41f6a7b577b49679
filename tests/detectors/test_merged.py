"""A window that an agent made of several stands for each of them."""

from msgspec import UNSET
from north import extract

from detectors.views import Repeats
from hopwatch.events import Flow


def merged(first: int, last: int) -> Flow:
    return extract(n=last).model_copy(update={"merged": {"windows": last - first + 1, "sequence_first": first}})


def test_the_windows_a_merged_one_was_made_of_are_repetitions_of_it() -> None:
    repeats = Repeats()
    assert repeats.first(extract(n=0)) and repeats.first(merged(1, 5)) and repeats.first(extract(n=6))
    assert not any(repeats.first(extract(n=number)) for number in range(7))
    assert not repeats.first(merged(1, 5)) and not repeats.first(merged(2, 3))
    # One of them was not seen: it moves its data.
    assert repeats.first(merged(6, 7)) and not repeats.first(extract(n=7))


def test_flows_share_nothing_that_changes() -> None:
    repeats, made = Repeats(), [extract(key=key) for key in "abcd"]
    made[2] = made[2].model_copy(update={"sequence": 3, "merged": {"windows": 4, "sequence_first": 0}})
    runs = [
        repeats.first(one) for one in (*made, *(one.model_copy(update={"sequence": one.sequence + 1, "merged": UNSET}) for one in made))
    ]
    assert all(run is not None and run.course is None and (run.seen, run.turn) == (0, -1) for run in (runs[0], runs[1], runs[3]))
    assert len({id(run) for run in (runs[0], runs[2], *runs[4:])}) == 5
    assert sorted(repeats.state()) == sorted([one.flow_id, [[0, one.sequence + 2]]] for one in made)


def test_a_flow_that_ended_is_a_number_and_its_windows_are_repetitions() -> None:
    repeats, windows = Repeats(), [extract(n=n, final=n == 4) for n in range(5)]
    assert all(repeats.first(one) for one in windows)
    assert [type(entry) for _, entry in repeats.memory.items()] == [int]
    assert not any(repeats.first(one) for one in windows)
    assert repeats.state() == [[windows[0].flow_id, [[0, 5]]]]
    kept = Repeats()
    kept.restore(repeats.state())
    assert not any(kept.first(one) for one in windows) and kept.first(extract(n=5))


def test_what_an_agent_says_of_merging_is_not_believed_beyond_its_number() -> None:
    window = extract(n=3)
    for said in ({"sequence_first": 9}, {"sequence_first": -1}, {"sequence_first": "x"}, {}):
        assert window.model_copy(update={"merged": said}).sequence_first == 3
