"""What questions remember by key, and what they hold of it between windows."""

from typing import Any

from detectors.memory import Memory


def counting(most: int = 32) -> Memory[list[int]]:
    return Memory(lambda: [0], list, list, most)


def test_what_is_held_is_the_entry_itself_until_something_may_have_become_of_it() -> None:
    memory = counting()
    held = memory.hold("a")
    held.entry[0] += 1
    assert held.turn == memory.turn
    assert memory.known("a") == [1]
    memory.changes()
    assert held.turn != memory.turn
    memory.again(held)[0] += 1
    assert held.turn == memory.turn
    assert memory.changes() == [["a", [2]]]


def test_what_is_held_and_used_is_not_forgotten_and_what_rests_is() -> None:
    memory = counting()
    used, resting = memory.hold("used"), memory.hold("resting")
    resting.entry[0] = 5
    for number in range(1_000):
        memory.of(f"other {number}")
        entry = used.entry if used.turn == memory.turn else memory.again(used)
        entry[0] += 1
    assert memory.known("used") == [1_000]
    assert memory.known("resting") is None
    # It begins anew, and is known by its key again.
    assert memory.again(resting) == [0]
    assert memory.known("resting") is resting.entry
    assert len(memory) == 32
    assert memory.forgotten_total == 1_000 + 2 + 1 - 32


def test_what_was_held_of_another_memory_or_before_a_restart_is_asked_for_again() -> None:
    memory, other = counting(), counting()
    held = memory.hold("a")
    assert held.turn != other.turn
    state: list[Any] = memory.state()
    for takes in (memory.restore, memory.merge):
        held.entry[0] = 9
        takes(state)
        assert held.turn != memory.turn
        assert memory.again(held) == [0]


def test_what_is_held_for_later_is_made_when_it_is_first_used() -> None:
    memory = counting()
    held = memory.later("a")
    assert held.turn != memory.turn
    assert len(memory) == 0
    memory.again(held)[0] += 1
    assert held.turn == memory.turn
    assert memory.known("a") == [1]
