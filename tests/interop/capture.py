"""What was on the wire, as dumpcap saw it and tshark read it."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import trio

from .programs import PATIENCE, require, running, unavailable

PAUSE: Final = 0.01  # seconds, between two looks into the file

FIN, RST = 0x01, 0x04  # RFC 9293 section 3.1
ALERT, APPLICATION_DATA = 21, 23  # RFC 9846 section 5.1
HEADER_SIZE: Final = 5

CLOSE_NOTIFY: Final = "alert 1/0"
UNREADABLE: Final = "a record that cannot be decrypted"

FIELDS: Final = (
    "frame.time_epoch",
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

Connections: TypeAlias = Collection[tuple[int, int]]
"""Their ports: the client's, the server's."""


@attrs.frozen
class Packet:
    """One TCP packet, as tshark reads it."""

    time: float
    """Seconds since some moment."""

    source: int
    """The port that sent it."""

    destination: int
    """The port it went to."""

    fin: bool
    reset: bool

    start: int
    """Where its payload stands in all that this port has sent."""

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
    ports: Sequence[int] = (),
    patience: float = PATIENCE,
) -> list[Packet]:
    """What is on the loopback interface while *play* runs.

    dumpcap and tshark start slowly: make all connections under one capture. Skips
    the test where there can be none.

    Args:
      folder: Where files can be left.
      play: Makes connections over 127.0.0.1. They have to end. It gets the name of
        the key log, in which the secrets of all of them have to be.
      ports: Of the servers. If none are given: all.
      patience: How long *play* may take, in seconds.
    """
    require("tshark")
    file, secrets = folder / "loopback.pcap", folder / "secrets"
    connections: Connections = ()

    async def play_and_note() -> Connections:
        nonlocal connections
        connections = await play(secrets)
        return connections

    problem = await capture(file, play_and_note, ports=ports, patience=patience)
    if problem is not None:
        unavailable(f"no capture: {problem}")
    return await read(file, secrets, connections)


def between(packets: Sequence[Packet], ports: Collection[int]) -> list[Packet]:
    """The packets of one connection, without what a kernel sent again."""
    chosen: dict[object, Packet] = {}
    for packet in packets:
        if {packet.source, packet.destination} == set(ports):
            takes_place = packet.size > 0 or packet.fin  # RFC 9293 section 3.4
            place = packet.source, packet.start
            chosen.setdefault(place if takes_place else packet, packet)
    return list(chosen.values())


async def capture(
    file: Path,
    play: Callable[[], Awaitable[Connections]],
    *,
    ports: Sequence[int] = (),
    patience: float = PATIENCE,
) -> str | None:
    """Write what is on the loopback interface to *file* while *play* runs.

    Args:
      file: Where to.
      play: Makes connections, which have to end: it goes on until the ends of all
        of them are in the file.
      ports: Of the servers. If none are given: all.
      patience: How long *play* may take, in seconds.

    Returns:
      None, or why this machine does not let us.
    """
    only = " or ".join(f"tcp port {port}" for port in ports) or "tcp"
    async with running(
        *(require("dumpcap"), "-q", "-i", "lo", "-f", f"host 127.0.0.1 and ({only})"),
        *("-B", "16", "-P", "-w", str(file)),
        patience=patience,
    ) as dumpcap:
        # It names the file when everything is open and the filter set.
        if not await dumpcap.gets_to_say("File: "):
            return dumpcap.log.decode()
        connections = await play()
        while not _all_ended(file, connections):  # noqa: ASYNC110 (others write it)
            await trio.sleep(PAUSE)
        dumpcap.process.terminate()
        await dumpcap.ended.wait()
    return None


def _all_ended(file: Path, connections: Connections) -> bool:
    fins: set[tuple[int, int]] = set()
    resets: set[tuple[int, int]] = set()
    for source, destination, flags in _headers(file.read_bytes()):
        if flags & FIN:
            fins.add((source, destination))
        if flags & RST:
            resets |= {(source, destination), (destination, source)}
    return all((a, b) in resets or {(a, b), (b, a)} <= fins for a, b in connections)


def _headers(pcap: bytes) -> Iterator[tuple[int, int, int]]:
    """Source port, destination port and flags of each packet that is whole.

    The file has the classic format, and Linux's loopback interface poses as an
    Ethernet.
    """
    position = 24
    while position + 16 <= len(pcap):
        (size,) = struct.unpack_from("=I", pcap, position + 8)
        packet = pcap[position + 16 : position + 16 + size]
        if len(packet) < size:
            return  # pragma: no cover - only if dumpcap is in the middle of writing it
        position += 16 + size
        ip = packet[14:]
        tcp = ip[(ip[0] & 15) * 4 :]
        source, destination = struct.unpack_from("!HH", tcp)
        yield source, destination, tcp[13]


async def read(file: Path, secrets: Path, connections: Connections) -> list[Packet]:
    """What tshark makes of a captured file.

    Args:
      file: The capture.
      secrets: The key log.
      connections: Those that it is about; others may be using the interface, too.
    """
    tshark = await trio.run_process(
        [
            *(require("tshark"), "-n", "-r", str(file), "-T", "fields"),
            *(word for field in FIELDS for word in ("-e", field)),
            *("-o", f"tls.keylog_file:{secrets}"),
            *(
                word
                for port in {port for _, port in connections}
                for word in ("-d", f"tcp.port=={port},tls")
            ),
        ],
        capture_stdout=True,
        capture_stderr=True,
    )
    packets = [
        _packet(*line.split("\t")) for line in tshark.stdout.decode().splitlines()
    ]
    wanted = [set(ports) for ports in connections]
    return [
        packet for packet in packets if {packet.source, packet.destination} in wanted
    ]


def _packet(
    time: str,
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
    # TLS 1.2 has the type outside: that is no sign that the rest can be decrypted.
    for content_type in types:
        if content_type == ALERT:
            alert = next(alerts, None)
            yield f"alert {alert[0]}/{alert[1]}" if alert else UNREADABLE
        elif content_type == APPLICATION_DATA:
            size = next(data, None)
            yield UNREADABLE if size is None else f"data {size}"
    # TLS 1.3 has it inside only.
    yield from [UNREADABLE] * (number - len(types))
