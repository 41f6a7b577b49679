"""What pages get of the store is shared for a moment, and never older than what somebody decided."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from dashboards.console.library import Library
from hopwatch.store import Reader
from hopwatch.store.reader import reader


def test_an_answer_from_before_a_decision_is_not_kept_beyond_it(day: Path) -> None:
    library = Library(lambda: reader(str(day), None), lambda: 0.0)
    asked, answer = threading.Event(), threading.Event()

    def slow(_: Reader) -> str:
        asked.set()
        answer.wait(10)
        return "before"

    async def story() -> tuple[str, str]:
        looking = asyncio.create_task(library.ask(slow, "list"))
        await asyncio.to_thread(asked.wait, 10)
        library.forget()  # Somebody decides while the list is read.
        answer.set()
        return await looking, await library.ask(lambda _: "after", "list")

    assert asyncio.run(story()) == ("before", "after")
    library.close()
