from __future__ import annotations

import threading

from paintover.bridge.mailbox import Mailbox
from paintover.bridge.messages import Ping, Progress


def test_the_latest_wins_and_nothing_else_is_dropped() -> None:
    box = Mailbox()
    for number in range(100):
        box.put(Progress("a", "x", number / 100))
        box.put(Ping(number))
        box.put(Progress("b", "x", number / 100))
    found = [box.take(0) for _ in range(102)]
    assert box.take(0) is None
    assert [m for m in found if isinstance(m, Ping)] == [Ping(n) for n in range(100)]
    assert [m for m in found if isinstance(m, Progress)] == [
        Progress("a", "x", 0.99),
        Progress("b", "x", 0.99),
    ]


def test_a_message_that_left_is_not_superseded() -> None:
    box = Mailbox()
    box.put(Progress("a", "x", 0.1))
    assert box.take() == Progress("a", "x", 0.1)
    box.put(Progress("a", "x", 0.2))
    assert box.take() == Progress("a", "x", 0.2)


def test_close_wakes_who_waits() -> None:
    box, got = Mailbox(), []
    thread = threading.Thread(target=lambda: got.append(box.take()))
    thread.start()
    box.close()
    thread.join(10)
    assert got == [None]
    box.put(Ping(1))
    assert len(box) == 0


def test_empty_means_sent_and_not_only_taken() -> None:
    box = Mailbox()
    box.put(Ping(1))
    box.take()
    assert not box.wait_empty(0)
    box.done()
    assert box.wait_empty(0)
