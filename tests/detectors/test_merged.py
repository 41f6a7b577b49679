"""A window that an agent made of several stands for each of them."""

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


def test_what_an_agent_says_of_merging_is_not_believed_beyond_its_number() -> None:
    window = extract(n=3)
    for said in ({"sequence_first": 9}, {"sequence_first": -1}, {"sequence_first": "x"}, {}):
        assert window.model_copy(update={"merged": said}).sequence_first == 3
