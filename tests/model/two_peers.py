"""Two peers and what lies between them, small enough to visit every state.

Each peer is the project's own `ConnectionState`: this file has no table of its own. It
says only what the world may do, and what `connection`, `closing` and `engine` ask
before they report an event. The application of each side has one message of
`RECORDS` records to send, and may do so, stop in the middle, end or close at any time.

Between them is what TCP promises: each direction is ordered and loses nothing, until
somebody cuts it. An attacker cuts a direction before any record, resets both, or
changes a record.

That a shutdown is given up and taken up again is left out here: it changes nothing that
the peer could notice. `explore_alone` has it.
"""

from __future__ import annotations

import copy
import functools
from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from trio_tlsdown import ShutdownOutcome
from trio_tlsdown._core.state import (
    ConnectionState,
    Event,
    LocalState,
    Receiving,
    Sending,
)

RECORDS: Final = 2

# More than there are; a mistake in a table can make them infinitely many.
MOST_WORLDS: Final = 200_000


class Item(Enum):
    """What can be in one direction, besides numbered records of the message."""

    FLIGHT = "a flight of the handshake"
    PART = "a part of a record"
    CLOSE_NOTIFY = "close_notify"
    ALERT = "a fatal alert"
    CHANGED = "a record that was changed on its way"
    FIN = "FIN"
    RST = "RST"

    __hash__ = object.__hash__


ENDS: Final = frozenset({Item.FIN, Item.RST})

Channel: TypeAlias = tuple[Item | int, ...]


class Machines(NamedTuple):
    """The three machines of one `ConnectionState`, and what it remembers."""

    sending: Sending = Sending.HANDSHAKING
    receiving: Receiving = Receiving.HANDSHAKING
    local: LocalState = LocalState.LIVE
    broken_by: ShutdownOutcome | None = None

    def state(self) -> ConnectionState:
        """A copy of the one that was found in this state first, with its flags."""
        return copy.copy(found[self])


found: Final = {Machines(): ConnectionState(lambda event: None)}


# Each event that came, and where: what of the tables was used.
moved: Final[set[tuple[Event, Machines]]] = set()


class Move(NamedTuple):
    """What one event did."""

    legal: bool
    machines: Machines


@functools.cache
def move(machines: Machines, event: Event) -> Move:
    state = machines.state()
    legal = state.process_event_if_legal(event)
    if legal:
        moved.add((event, machines))
    return Move(legal, machines_of(state))


def machines_of(state: ConnectionState) -> Machines:
    machines = Machines(state.sending, state.receiving, state.local, state.broken_by)
    found.setdefault(machines, state)
    return machines


@functools.cache
def told(machines: Machines) -> Machines:
    """What they are after a call has told what became of sending."""
    state = machines.state()
    state.settle()
    return machines_of(state)


class Peer(NamedTuple):
    """One side: its machines, what it has said, what it has heard."""

    machines: Machines = Machines()
    said: int = 0  # records of the message that have left
    heard: int = 0
    gave_up_message: bool = False

    @property
    def in_message(self) -> bool:
        """Whether a task is between two records of its message."""
        return 0 < self.said < RECORDS and not self.gave_up_message

    @property
    def closed(self) -> bool:
        return self.machines.local.is_closed

    @property
    def outcome(self) -> ShutdownOutcome:
        return outcome(self.machines)

    def strictly(self, event: Event) -> Peer:
        legal, machines = move(self.machines, event)
        assert legal, f"{event} in {self}: an IllegalTransitionError"
        return self._replace(machines=machines)

    def perhaps(self, event: Event) -> Peer:
        return self._replace(machines=move(self.machines, event).machines)


@functools.cache
def outcome(machines: Machines) -> ShutdownOutcome:
    return machines.state().outcome


class World(NamedTuple):
    """Both peers, and what is on its way *to* each of them."""

    one: Peer = Peer()
    other: Peer = Peer()
    to_one: Channel = (Item.FLIGHT,)
    to_other: Channel = (Item.FLIGHT,)


START: Final = World()


def steps(world: World) -> Iterator[World]:
    """Every world that one step of somebody leads to."""
    one, other, to_one, to_other = world
    for peer, incoming, outgoing in _steps_of(one, to_one, to_other):
        yield World(peer, other, incoming, outgoing)
    for peer, incoming, outgoing in _steps_of(other, to_other, to_one):
        yield World(one, peer, outgoing, incoming)
    yield World(one, other, (Item.RST,), (Item.RST,))
    for changed in _attacks_on(to_one):
        yield World(one, other, changed, to_other)
    for changed in _attacks_on(to_other):
        yield World(one, other, to_one, changed)


# The peer, and what is on its way to it and from it, after a step.
_Next: TypeAlias = tuple[Peer, Channel, Channel]


@functools.cache
def _steps_of(peer: Peer, incoming: Channel, outgoing: Channel) -> list[_Next]:
    if peer.closed:
        return []
    return [
        *_reads(peer, incoming, outgoing),
        *_sends(peer, incoming, outgoing),
        *_decides(peer, incoming, outgoing),
    ]


def _reads(peer: Peer, incoming: Channel, outgoing: Channel) -> Iterator[_Next]:
    if not incoming:
        return
    head, rest = incoming[0], incoming[1:]
    if head is Item.FIN or (head is Item.PART and rest[:1] == (Item.FIN,)):
        yield peer.perhaps(Event.TRUNCATED), incoming, outgoing
    elif head is Item.RST or (head is Item.PART and rest[:1] == (Item.RST,)):
        yield peer.perhaps(Event.RECEIVING_RESET), incoming, outgoing
    elif head is not Item.PART:  # else more has to come
        yield from _reads_record(peer, head, rest, outgoing)


def _reads_record(
    peer: Peer, head: Item | int, rest: Channel, outgoing: Channel
) -> Iterator[_Next]:
    receiving = peer.machines.receiving
    # plain() has left out what nobody reads.
    assert receiving in {Receiving.HANDSHAKING, Receiving.OPEN}
    shaking = receiving is Receiving.HANDSHAKING
    if head is Item.FLIGHT:
        # Engine.do_handshake: nothing, unless both directions are still in it.
        if shaking and peer.machines.sending is Sending.HANDSHAKING:
            peer = peer.strictly(Event.HANDSHAKE_DONE)
        yield peer, rest, outgoing
    elif shaking and peer.machines.sending is not Sending.HANDSHAKING:
        yield peer, rest, outgoing  # the handshake was given up: nobody reads it
    elif head is Item.CHANGED:
        failed = peer.strictly(Event.FAILED)
        yield failed, rest, outgoing
        # Engine._take_in: nothing follows our close_notify.
        if peer.machines.sending in {Sending.HANDSHAKING, Sending.OPEN}:
            for channel in _leaves(Item.ALERT, outgoing):
                yield failed, rest, channel
    elif head is Item.ALERT:
        yield peer.strictly(Event.FAILED), rest, outgoing
    elif head is Item.CLOSE_NOTIFY:
        event = Event.TRUNCATED if shaking else Event.CLOSE_NOTIFY_RECEIVED
        yield peer.strictly(event), rest, outgoing
    else:
        assert isinstance(head, int)
        assert head == peer.heard, f"{head} is not the next record of {peer}"
        yield peer._replace(heard=peer.heard + 1), rest, outgoing


def _sends(peer: Peer, incoming: Channel, outgoing: Channel) -> Iterator[_Next]:
    sending = peer.machines.sending
    broken = peer.perhaps(Event.SENDING_BROKEN)
    stopped = broken._replace(gave_up_message=True)
    if sending is Sending.HANDSHAKING:
        yield broken, incoming, outgoing
        yield from _cannot_send(peer, incoming, outgoing)
    elif sending is Sending.OPEN:
        if peer.said < RECORDS:
            sent = peer._replace(said=peer.said + 1)
            for channel in _leaves(peer.said, outgoing):
                yield sent, incoming, channel
                # Nobody knows whether all of it has left.
                was_whole = stopped._replace(said=peer.said + 1)
                yield was_whole, incoming, channel
            for channel in _leaves(Item.PART, outgoing):
                yield stopped, incoming, channel
            yield from _cannot_send(peer, incoming, outgoing)
        if peer.in_message:
            yield stopped, incoming, outgoing
        else:
            # SendConflictDetector.ending(): not beside a task that sends.
            ended = peer.strictly(Event.CLOSE_NOTIFY_ENCRYPTED)
            yield ended, incoming, outgoing
    elif sending is Sending.ENCRYPTED:
        for channel in _leaves(Item.CLOSE_NOTIFY, outgoing):
            sent = peer.perhaps(Event.CLOSE_NOTIFY_SENT)
            yield sent, incoming, channel
            yield broken, incoming, channel
        for channel in _leaves(Item.PART, outgoing):
            yield broken, incoming, channel
        yield from _cannot_send(peer, incoming, outgoing)


def _leaves(item: Item | int, channel: Channel) -> Iterator[Channel]:
    """The channel afterwards; what is said behind an end never comes."""
    if any(end in ENDS for end in channel):
        yield channel
    else:
        yield (*channel, item)


def _cannot_send(peer: Peer, incoming: Channel, outgoing: Channel) -> Iterator[_Next]:
    if any(end in ENDS for end in outgoing) or incoming[:1] == (Item.RST,):
        reset = peer.perhaps(Event.SENDING_RESET)._replace(gave_up_message=True)
        yield reset, incoming, outgoing


def _decides(peer: Peer, incoming: Channel, outgoing: Channel) -> Iterator[_Next]:
    if peer.outcome is ShutdownOutcome.COMPLETE:
        unwrapped = peer.strictly(Event.UNWRAPPED)
        yield unwrapped, incoming, outgoing
    # Connection.mark_closed, in a handshake and out of one.
    closed = peer.strictly(Event.CLOSED)
    beginnings = {closed, peer.perhaps(Event.FAILED).strictly(Event.CLOSED)}
    if peer.machines.sending is not Sending.HANDSHAKING:
        beginnings = {closed}
    for ended in beginnings:
        for channel in _leaves(Item.FIN, outgoing):
            yield ended, incoming, channel
        # By an abort, or because something was unread when the time to linger was up.
        yield ended, incoming, (Item.RST,)


def _attacks_on(channel: Channel) -> Iterator[Channel]:
    if Item.RST in channel:
        return
    rest = channel[:-1] if channel[-1:] == (Item.FIN,) else channel
    for place in range(len(rest) + 1):
        yield (*rest[:place], Item.FIN)
    for place, item in enumerate(rest):
        if item is not Item.PART:
            yield (*channel[:place], Item.CHANGED, *channel[place + 1 :])


def plain(world: World) -> World:
    """*world* without what nobody can notice: fewer of them to visit.

    What is on its way to one who does not read it any more, and what lies behind a
    record that cannot be read, changes nothing. The two sides are alike.
    """
    here = _side(world.one, world.to_one)
    there = _side(world.other, world.to_other)
    if here[2] > there[2]:
        here, there = there, here
    return World(here[0], there[0], here[1], there[1])


@functools.cache
def _side(peer: Peer, incoming: Channel) -> tuple[Peer, Channel, int]:
    """One side of a plain world, with a number: any will do, if it stays."""
    incoming = _noticed(peer, incoming)
    number = _numbers.setdefault((peer, incoming), len(_numbers))
    return peer, incoming, number


def _noticed(peer: Peer, incoming: Channel) -> Channel:
    if Item.RST in incoming:
        return (Item.RST,)
    end = incoming[-1:] if incoming[-1:] == (Item.FIN,) else ()
    if peer.closed or peer.machines.receiving not in {
        Receiving.HANDSHAKING,
        Receiving.OPEN,
    }:
        return end
    for last in (Item.CHANGED, Item.ALERT, Item.CLOSE_NOTIFY):
        if last in incoming:
            return (*incoming[: incoming.index(last) + 1], *end)
    return incoming


_numbers: dict[tuple[Peer, Channel], int] = {}


def explore() -> dict[World, list[World]]:
    """Visit every world that can be reached: each, and those one step away from it."""
    after: dict[World, list[World]] = {}
    start = plain(START)
    queue = deque([start])
    known = {start}
    while queue:
        world = queue.popleft()
        after[world] = list({plain(following) for following in steps(world)} - {world})
        assert len(known) < MOST_WORLDS, "some step can be repeated without end"
        for following in after[world]:
            if following not in known:
                known.add(following)
                queue.append(following)
    return after


def leads_to(after: dict[World, list[World]], goals: set[World]) -> set[World]:
    """The worlds from which one of *goals* can be reached."""
    before: dict[World, list[World]] = {world: [] for world in after}
    for world, nexts in after.items():
        for following in nexts:
            before[following].append(world)
    found, queue = set(goals), deque(goals)
    while queue:
        for world in before[queue.popleft()]:
            if world not in found:
                found.add(world)
                queue.append(world)
    return found


def explore_alone() -> dict[Machines, list[Machines]]:
    """Every state of one side, at each stage of a shutdown. Call `explore` first.

    What may come in a state of the two directions is what came there then.
    """
    events: dict[tuple[Sending, Receiving], set[Event]] = {}
    for event, machines in moved:
        events.setdefault(machines[:2], set()).add(event)
    after: dict[Machines, list[Machines]] = {}
    queue = deque([Machines()])
    while queue:
        machines = queue.popleft()
        if machines in after:
            continue
        after[machines] = []
        if Peer(machines).closed:
            continue
        possible = events.get(machines[:2], set()) | {Event.RESUMED}
        after[machines] += {told(machines)} - {machines}
        if not outcome(machines).final:  # Closer._give_up
            possible |= {Event.GIVEN_UP}
        for event in possible:
            legal, following = move(machines, event)
            if legal:
                after[machines].append(following)
        queue.extend(after[machines])
    return after
