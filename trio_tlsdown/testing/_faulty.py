"""A transport that misbehaves at a chosen byte, the same way every time."""

from __future__ import annotations

import errno
import math
import os
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

import attrs
import trio

from ._transports import Guard, at_most, reset_when_closed

T = TypeVar("T")

Direction: TypeAlias = Literal["send", "receive"]
"""Seen from the task that uses the `FaultyStream`."""

# What a receive without a limit takes at once, in bytes: as Trio's sockets do.
RECEIVE_SIZE: Final = 2**16


def _direction(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value not in get_args(Direction):
        raise ValueError(f"{attribute.name} must be 'send' or 'receive', not {value!r}")


def _bytes(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    _check_int(attribute.name, value, least=0)


def _sizes(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    numbers: list[Any] = list(_pair(value))
    for number in numbers:
        _check_int(attribute.name, number, least=1)
    if len(numbers) != 2 or numbers[0] > numbers[1]:
        raise ValueError(f"{attribute.name} must be (least, most), not {value!r}")


def _seconds(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{attribute.name} must be a number of seconds, not {value!r}")
    if math.isnan(value) or value < 0:
        raise ValueError(f"{attribute.name} must be >= 0 seconds, not {value!r}")


def _check_int(name: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a number of bytes, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be >= {least} bytes, not {value!r}")


@attrs.frozen
class _Fault:
    direction: Direction = attrs.field(validator=_direction)
    """``"send"`` or ``"receive"``."""

    at: int = attrs.field(default=0, kw_only=True, validator=_bytes)
    """How many bytes pass unharmed in that direction. Default: 0."""


@attrs.frozen
class Cut(_Fault):
    """The direction ends there, as if by a FIN; the other one stays open.

    Receiving returns ``b""`` from then on. Sending raises
    `trio.BrokenResourceError` from `BrokenPipeError`, and ends the sending side of the
    transport: with ``send_eof`` if the transport has that, otherwise by closing it.
    """


@attrs.frozen
class Reset(_Fault):
    """Both directions fail there: `trio.BrokenResourceError`.

    Its cause is a `ConnectionResetError`. A task that is using the stream gets it too.
    The transport is closed; if it is a `trio.SocketStream`, its peer gets an RST.
    """


@attrs.frozen
class Stall(_Fault):
    """Nothing passes from there on: calls block until cancelled or closed."""


@attrs.frozen
class Rechunk(_Fault):
    """From there on, bytes pass in pieces of a certain size.

    A later `Rechunk` replaces an earlier one. Only the seed decides where pieces end. A
    piece may be split further, by what the transport has or the caller asks for, but its
    end never moves.
    """

    size: int | tuple[int, int] = attrs.field(kw_only=True, validator=_sizes)
    """Bytes in a piece: a number, or ``(least, most)`` for random ones."""


@attrs.frozen
class Delay(_Fault):
    """The byte there is late, once."""

    seconds: float = attrs.field(kw_only=True, validator=_seconds)
    """By how much, on Trio's clock, from the first call that would pass it."""


Fault: TypeAlias = Cut | Reset | Stall | Rechunk | Delay


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


class _Lane(Guard):
    """One direction: what has passed, and what is to come."""

    def __init__(self, direction: Direction, faults: list[Fault], seed: int) -> None:
        super().__init__(f"using this FaultyStream to {direction}")
        self.passed = 0  # bytes
        self.broken: int | None = None  # the errno that every call gets
        self._faults = deque(
            sorted(
                (fault for fault in faults if fault.direction == direction),
                key=lambda fault: fault.at,
            )
        )
        # Not for security, but to be the same each time. Each direction has its
        # own, so that how tasks take turns changes nothing.
        self._random = random.Random(f"{direction} {seed}")  # noqa: S311
        self._sizes: tuple[int, int] | None = None
        self._piece_end = 0
        self._delayed_until: float | None = None

    @property
    def due(self) -> Fault | None:
        """The fault that strikes before another byte passes."""
        if self._faults and self._faults[0].at <= self.passed:
            return self._faults[0]
        return None

    def done(self) -> None:
        """The fault that was due has been dealt with."""
        self._faults.popleft()
        self._delayed_until = None

    def delay(self, seconds: float) -> float:
        """When the `Delay` that is due is over; a second call does not prolong it."""
        if self._delayed_until is None:
            self._delayed_until = trio.current_time() + seconds
        return self._delayed_until

    def rechunk(self, size: int | tuple[int, int]) -> None:
        """Begin a piece here."""
        self._sizes = _pair(size)
        self._piece_end = self.passed

    def room(self, wanted: int) -> int:
        """How many of *wanted* bytes may pass together."""
        end = self.passed + wanted
        if self._faults:
            end = min(end, self._faults[0].at)
        if self._sizes is not None:
            if self._piece_end == self.passed:
                self._piece_end += self._random.randint(*self._sizes)
            end = min(end, self._piece_end)
        return end - self.passed


class FaultyStream(trio.abc.HalfCloseableStream):
    """A transport with faults, each at a certain byte of one direction.

    A fault strikes when as many bytes have passed in its direction, before the next byte
    or the end passes. Several faults can be combined: they strike in the order of their
    bytes, then in the order given. Nothing but *faults* and *seed* decides what happens
    at which byte.

    Args:
      transport: The underlying stream.
      faults: What goes wrong, and where. Default: nothing.
      seed: For the random sizes of `Rechunk`. Default: 0.

    Cancellation:
      Receiving loses nothing. When a send is cancelled, it is not known how much of the
      current piece has passed; it counts as not passed, so later faults may strike late
      by that much. A `Delay` goes on in the next call.

    Raises:
      TypeError: an argument is of the wrong type.
    """

    transport_stream: trio.abc.Stream
    """The transport."""

    def __init__(
        self,
        transport: trio.abc.Stream,
        faults: Iterable[Fault] = (),
        *,
        seed: int = 0,
    ) -> None:
        if not isinstance(transport, trio.abc.Stream):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"transport must be a trio.abc.Stream, not {transport!r}")
        if not isinstance(faults, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"faults must be a list of faults, not {faults!r}")
        faults = list(faults)
        for fault in faults:
            if not isinstance(fault, Fault):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    "each of faults must be a Cut, Reset, Stall, Delay or Rechunk, "
                    f"not {fault!r}"
                )
        if not isinstance(seed, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"seed must be an int, not {seed!r}")
        self.transport_stream = transport
        self._sending = _Lane("send", faults, seed)
        self._receiving = _Lane("receive", faults, seed)
        self._closed = False
        self._over = trio.Event()  # closed, or both directions broken

    def __repr__(self) -> str:
        return f"<FaultyStream over {self.transport_stream!r}>"

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data*, as far as the faults let it pass.

        Raises:
          trio.BrokenResourceError: a fault, or the transport is broken.
          trio.ClosedResourceError: this stream is closed, or was closed meanwhile.
          trio.BusyResourceError: another task is sending.
        """
        rest = memoryview(data)
        lane = self._sending
        with lane:
            while True:
                await self._before_sending()
                piece = rest[: lane.room(len(rest))]
                await self._told_by_us(lane, self.transport_stream.send_all(piece))
                lane.passed += len(piece)
                rest = rest[len(piece) :]
                if not rest:
                    return

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as the transport does; a fault that is due strikes."""
        with self._sending:
            await self._before_sending()
            wait = self.transport_stream.wait_send_all_might_not_block
            await self._told_by_us(self._sending, wait())

    async def send_eof(self) -> None:
        """End the transport's sending side; a fault that is due strikes first.

        Raises:
          NotImplementedError: the transport has no ``send_eof``.
        """
        if not isinstance(self.transport_stream, trio.abc.HalfCloseableStream):
            raise NotImplementedError(f"{self.transport_stream!r} has no send_eof")
        with self._sending:
            await self._before_sending()
            await self._told_by_us(self._sending, self.transport_stream.send_eof())

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive what the faults let pass; ``b""`` at the end or after a `Cut`.

        Raises:
          trio.BrokenResourceError: a fault, or the transport is broken.
          trio.ClosedResourceError: this stream is closed, or was closed meanwhile.
          trio.BusyResourceError: another task is receiving.
        """
        wanted = at_most(max_bytes, RECEIVE_SIZE)
        lane = self._receiving
        with lane:
            if await self._is_cut(lane):
                await trio.lowlevel.checkpoint()
                return b""
            receive = self.transport_stream.receive_some
            data = await self._told_by_us(lane, receive(lane.room(wanted)))
            lane.passed += len(data)
            return data

    def receive_some_nowait(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive without waiting, if the transport has this method too.

        A `Reset` that strikes here closes the transport when this stream is closed.

        Raises:
          trio.WouldBlock: nothing has arrived, or a fault holds it back.
          NotImplementedError: the transport has no ``receive_some_nowait``.
        """
        receive: Callable[[int], bytes] | None = getattr(
            self.transport_stream, "receive_some_nowait", None
        )
        if receive is None:
            raise NotImplementedError(
                f"{self.transport_stream!r} has no receive_some_nowait"
            )
        wanted = at_most(max_bytes, RECEIVE_SIZE)
        lane = self._receiving
        with lane:
            match self._strike(lane):
                case None:
                    data = receive(lane.room(wanted))
                    lane.passed += len(data)
                    return data
                case Cut():
                    return b""
                case Reset():
                    self._reset(sending=errno.ECONNRESET)
                    self._check(lane)
                case _:
                    pass
            raise trio.WouldBlock

    async def aclose(self) -> None:
        """Close the transport; no fault strikes.

        A task that is using the stream, stalled or not, gets `trio.ClosedResourceError`.

        Cancellation:
          The transport is closed all the same.
        """
        self._closed = True
        self._over.set()
        await self.transport_stream.aclose()

    async def _before_sending(self) -> None:
        lane = self._sending
        if not await self._is_cut(lane):
            return
        if isinstance(self.transport_stream, trio.abc.HalfCloseableStream):
            await self._told_by_us(lane, self.transport_stream.send_eof())
            lane.broken = errno.EPIPE
        else:
            await self._break(sending=errno.EPIPE)
        self._check(lane)

    async def _is_cut(self, lane: _Lane) -> bool:
        """Let strike what is due, and tell whether a `Cut` is."""
        if self._closed or lane.broken is not None:
            await trio.lowlevel.checkpoint()
        while (fault := self._strike(lane)) is not None:
            match fault:
                case Cut():
                    return True
                case Reset():
                    await self._break(sending=errno.ECONNRESET)
                case Stall():
                    await self._over.wait()
                case _:
                    with trio.move_on_at(lane.delay(fault.seconds)):
                        await self._over.wait()
        return False

    def _strike(self, lane: _Lane) -> Cut | Reset | Stall | Delay | None:
        """The fault that is due now, if it is more than a new size of pieces.

        A `Delay` is until it is over.
        """
        self._check(lane)
        while (fault := lane.due) is not None:
            match fault:
                case Rechunk():
                    lane.rechunk(fault.size)
                case Delay() if lane.delay(fault.seconds) <= trio.current_time():
                    pass
                case _:
                    return fault
            lane.done()
        return None

    async def _break(self, *, sending: int) -> None:
        self._reset(sending=sending)
        await trio.aclose_forcefully(self.transport_stream)

    def _reset(self, *, sending: int) -> None:
        self._sending.broken = sending
        self._receiving.broken = errno.ECONNRESET
        self._over.set()
        if isinstance(self.transport_stream, trio.SocketStream):
            with suppress(OSError):  # the caller may have closed it
                reset_when_closed(self.transport_stream)

    def _check(self, lane: _Lane) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this FaultyStream was closed")
        if lane.broken is not None:
            cause = OSError(lane.broken, os.strerror(lane.broken))
            raise trio.BrokenResourceError(f"a fault: {cause}") from cause

    # No @contextmanager: since Python 3.12 one that has caught an exception is part of a
    # reference cycle with all frames that it passed.
    async def _told_by_us(self, lane: _Lane, call: Awaitable[T]) -> T:
        try:
            return await call
        except trio.ClosedResourceError:
            # Closed under a task in a call: by a fault, or by aclose().
            self._check(lane)
            raise
