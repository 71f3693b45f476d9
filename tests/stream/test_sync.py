"""The lock for sending, and who may send beside whom."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import trio
import trio.testing

from trio_tlsdown._stream.sync import SendConflictDetector, SendLock


async def hold(lock: SendLock, order: list[int], number: int) -> None:
    await lock.acquire()
    order.append(number)
    await trio.lowlevel.checkpoint()
    lock.release()


async def test_the_send_lock_goes_to_the_task_that_has_waited_longest() -> None:
    lock = SendLock()
    order: list[int] = []
    await lock.acquire()
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(hold, lock, order, number)
            await trio.testing.wait_all_tasks_blocked()
        lock.release()
        # Whoever comes now is behind them, though none of them has run yet.
        assert lock.locked
        await hold(lock, order, 5)
    assert order == [0, 1, 2, 3, 4, 5]
    assert not lock.locked


async def test_a_cancelled_wait_for_the_send_lock_leaves_the_queue() -> None:
    lock = SendLock()
    order: list[int] = []
    await lock.acquire()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as waiting:
                waiting.start_soon(hold, lock, order, 0)
                await trio.testing.wait_all_tasks_blocked()
                assert lock.contended
                scope.cancel()
        assert not lock.contended
        nursery.start_soon(hold, lock, order, 1)
        await trio.testing.wait_all_tasks_blocked()
        lock.release()
    assert order == [1]


async def test_a_wait_that_is_cancelled_in_its_turn_has_the_send_lock() -> None:
    lock = SendLock()
    order: list[int] = []
    await lock.acquire()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, lock, order, 0)
            await trio.testing.wait_all_tasks_blocked()
            lock.release()
            scope.cancel()
    assert order == [0]
    assert lock.locked  # the holder was cancelled before it let go


def test_nobody_sends_until_the_last_ending_is_over() -> None:
    sends = SendConflictDetector()
    with sends.ending():
        refuses(sends, trio.ClosedResourceError)
        with sends.ending():
            refuses(sends, trio.ClosedResourceError)
        refuses(sends, trio.ClosedResourceError)
        beside_an_ending = sends.sending
    with sends:
        assert sends.sending
        refuses(sends, trio.BusyResourceError)
        refuses(sends.ending(), trio.BusyResourceError)
    assert not sends.busy
    assert not beside_an_ending


def refuses(entry: AbstractContextManager[None], error: type[Exception]) -> None:
    with pytest.raises(error):
        entry.__enter__()
