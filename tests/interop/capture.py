"""What was on the wire: captured by dumpcap, dissected by tshark."""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import trio

from harness.process import PATIENCE, running

from .programs import require, unavailable

PAUSE: Final = 0.01  # seconds between two looks at the file

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10  # RFC 9293 section 3.1
ALERT, APPLICATION_DATA = 21, 23  # RFC 9846 section 5.1
HEADER_SIZE: Final = 5

CLOSE_NOTIFY: Final = "alert 1/0"
UNREADABLE: Final = "a record that cannot be decrypted"

FIELDS: Final = (
    "frame.time_epoch",
    "tcp.stream",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "tcp.seq",
    "tcp.len",
    "tls.record.length",
    "tls.record.content_type",  # what is inside, if it can be decrypted
    "tls.alert_message.level",
    "tls.alert_message.desc",
    "data.len",
    "tcp.payload",
)

Ports: TypeAlias = tuple[int, int]
"""The client's and the server's."""

Connections: TypeAlias = Collection[Ports]
"""In the order in which they were made: a kernel may reuse ports."""


@attrs.frozen
class Packet:
    """One TCP packet, as tshark reads it."""

    time: float
    """Seconds since an arbitrary moment."""

    stream: int
    """The number that tshark gives to its connection."""

    source: int
    """The port that sent it."""

    destination: int
    """The port it went to."""

    fin: bool
    reset: bool

    start: int
    """The offset of its payload in all that this port has sent."""

    size: int
    """Bytes of payload."""

    records: tuple[str, ...]
    """The TLS records that end in it, decrypted: ``alert LEVEL/DESCRIPTION``,
    ``data SIZE``, or `UNREADABLE`. Those of a handshake are left out."""

    in_records: int
    """Bytes of all TLS records that end in it."""

    payload: bytes


async def witness(
    folder: Path,
    play: Callable[[Path], Awaitable[Connections]],
    *,
    only: str,
    patience: float = PATIENCE,
) -> list[list[Packet]]:
    """The packets of each connection that *play* makes.

    dumpcap and tshark start slowly: make all connections under one capture. Skips the
    test where no capture is possible.

    Args:
      folder: For files.
      play: Makes connections over 127.0.0.1, all of which have to end. It is given the
        name of the key log, where it has to put the secrets of all of them.
      only: As for `capture`.
      patience: Seconds that *play* may take.
    """
    require("tshark")
    file, secrets = folder / "loopback.pcap", folder / "secrets"
    connections: Connections = ()

    async def play_and_note() -> Connections:
        nonlocal connections
        connections = await play(secrets)
        return connections

    problem = await capture(file, play_and_note, only=only, patience=patience)
    if problem is not None:
        unavailable(f"no capture: {problem}")
    return of_each(await read(file, secrets, connections), connections)


def of_each(packets: Sequence[Packet], connections: Connections) -> list[list[Packet]]:
    """The packets of each connection, without retransmissions."""
    streams: dict[frozenset[int], dict[int, list[Packet]]] = {}
    for packet in packets:
        ports = frozenset({packet.source, packet.destination})
        streams.setdefault(ports, {}).setdefault(packet.stream, []).append(packet)
    left = {ports: iter(each.values()) for ports, each in streams.items()}
    return [_once(next(left[frozenset(ports)])) for ports in connections]


def _once(packets: Sequence[Packet]) -> list[Packet]:
    chosen: dict[object, Packet] = {}
    ended: set[int] = set()
    repeated = False
    for packet in packets:
        # A packet that is sent again when both ends have gone is answered by RST.
        if packet.reset and repeated and len(ended) == 2:
            continue
        takes_place = packet.size > 0 or packet.fin  # RFC 9293 section 3.4
        place = (packet.source, packet.start) if takes_place else packet
        repeated |= place in chosen
        chosen.setdefault(place, packet)
        if packet.fin:
            ended.add(packet.source)
    return list(chosen.values())


async def capture(
    file: Path,
    play: Callable[[], Awaitable[Connections]],
    *,
    only: str,
    patience: float = PATIENCE,
) -> str | None:
    """Capture the loopback interface to *file* while *play* runs.

    Args:
      file: The capture.
      play: Makes connections, which have to end: the capture goes on until the ends
        of all of them are in the file.
      only: A primitive of pcap-filter(7) that matches these connections, and none of
        others on the interface.
      patience: Seconds that *play* may take.

    Returns:
      None, or why this machine does not allow it.
    """
    async with running(
        *(require("dumpcap"), "-q", "-i", "lo", "-f", f"tcp and ({only})"),
        *("-B", "64", "-P", "-w", str(file)),
        patience=patience,
    ) as dumpcap:
        # It prints the name of the file once everything is open and the filter is set.
        if not await dumpcap.gets_to_say("File: "):
            return dumpcap.log.decode()
        connections = await play()
        ends = _Ends()
        with file.open("rb") as pcap:
            while not ends.all_there(connections):
                await trio.sleep(PAUSE)
                ends.look(pcap.read())
        dumpcap.process.terminate()
        await dumpcap.ended.wait()
    return None


GLOBAL_HEADER: Final = 24  # bytes: this is the classic format
PACKET_HEADER: Final = struct.Struct("=8xI4x")


@attrs.define
class _Ends:
    """Which connections have ended, in a capture that is being written."""

    _unread: bytes = b""
    _skip: int = GLOBAL_HEADER
    _begun: dict[Ports, set[int]] = attrs.field(factory=lambda: defaultdict(set))
    """The initial sequence numbers of all clients on these ports."""

    _fins: set[Ports] = attrs.field(factory=set)
    """The ports whose last connection ended this way; likewise the next."""

    _resets: set[Ports] = attrs.field(factory=set)

    def all_there(self, connections: Connections) -> bool:
        return all(
            len(self._begun[a, b]) >= number
            and ((a, b) in self._resets or {(a, b), (b, a)} <= self._fins)
            for (a, b), number in Counter(connections).items()
        )

    def look(self, more: bytes) -> None:
        self._unread += more
        end = self._skip
        for start, end in _packets(self._unread, self._skip):
            source, destination, sequence, flags = _header(self._unread[start:end])
            both_ways = {(source, destination), (destination, source)}
            if flags & (SYN | ACK) == SYN:
                self._begun[source, destination].add(sequence)
                self._fins -= both_ways
                self._resets -= both_ways
            if flags & FIN:
                self._fins.add((source, destination))
            if flags & RST:
                self._resets |= both_ways
        self._unread, self._skip = self._unread[end:], 0


def _packets(pcap: bytes, position: int) -> Iterator[tuple[int, int]]:
    """Where the complete packets begin and end, with their headers."""
    while position + PACKET_HEADER.size <= len(pcap):
        (size,) = PACKET_HEADER.unpack_from(pcap, position)
        end = position + PACKET_HEADER.size + size
        if end > len(pcap):
            return  # pragma: no cover - only while dumpcap is writing it
        yield position, end
        position = end


def _header(packet: bytes) -> tuple[int, int, int, int]:
    """Source port, destination port, sequence number and flags.

    Linux's loopback interface looks like an Ethernet.
    """
    ip = packet[PACKET_HEADER.size + 14 :]
    tcp = ip[(ip[0] & 15) * 4 :]
    source, destination, sequence = struct.unpack_from("!HHI", tcp)
    return source, destination, sequence, tcp[13]


def _keep_only(file: Path, connections: Connections) -> None:
    """Drop the packets of others on the interface: tshark is slow."""
    pcap = file.read_bytes()
    wanted = [set(ports) for ports in connections]
    parts = [pcap[:GLOBAL_HEADER]]
    for start, end in _packets(pcap, GLOBAL_HEADER):
        source, destination, *_ = _header(pcap[start:end])
        if {source, destination} in wanted:
            parts.append(pcap[start:end])
    file.write_bytes(b"".join(parts))


async def read(file: Path, secrets: Path, connections: Connections) -> list[Packet]:
    """Dissect a capture with tshark.

    Args:
      file: The capture.
      secrets: The key log.
      connections: Which ones; others may be using the interface, too.
    """
    _keep_only(file, connections)
    tshark = await trio.run_process(
        [
            *(require("tshark"), "-n", "-r", str(file), "-T", "fields"),
            *(word for field in FIELDS for word in ("-e", field)),
            *("-o", f"tls.keylog_file:{secrets}"),
            # Two processors may be in the loopback interface at a time.
            *("-o", "tcp.reassemble_out_of_order:TRUE"),
            *(
                word
                for port in {port for _, port in connections}
                for word in ("-d", f"tcp.port=={port},tls")
            ),
        ],
        capture_stdout=True,
        capture_stderr=True,
    )
    return [_packet(*line.split("\t")) for line in tshark.stdout.decode().splitlines()]


def _packet(
    time: str,
    stream: str,
    source: str,
    destination: str,
    flags: str,
    start: str,
    size: str,
    lengths: str,
    types: str,
    levels: str,
    descriptions: str,
    sizes: str,
    payload: str,
) -> Packet:
    in_each = _numbers(lengths)
    alerts = iter(zip(_numbers(levels), _numbers(descriptions), strict=True))
    data = iter(_numbers(sizes))
    return Packet(
        time=float(time),
        stream=int(stream),
        source=int(source),
        destination=int(destination),
        fin=bool(int(flags, 16) & FIN),
        reset=bool(int(flags, 16) & RST),
        start=int(start),
        size=int(size),
        records=tuple(_records(_numbers(types), len(in_each), alerts, data)),
        in_records=sum(HEADER_SIZE + length for length in in_each),
        payload=bytes.fromhex(payload),
    )


def _numbers(field: str) -> list[int]:
    return [int(number) for number in field.split(",") if number]


def _records(
    types: Sequence[int],
    number: int,
    alerts: Iterator[tuple[int, int]],
    data: Iterator[int],
) -> Iterator[str]:
    # TLS 1.2 has the type outside: it does not show that the rest could be decrypted.
    for content_type in types:
        if content_type == ALERT:
            alert = next(alerts, None)
            yield f"alert {alert[0]}/{alert[1]}" if alert else UNREADABLE
        elif content_type == APPLICATION_DATA:
            size = next(data, None)
            yield UNREADABLE if size is None else f"data {size}"
    # TLS 1.3 has it inside only.
    yield from [UNREADABLE] * (number - len(types))
