"""What was on the wire, as dumpcap saw it and tshark read it."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import Final

import attrs
import trio

from .programs import require, running

# More than any packet of ours has. Of the big ones that others send meanwhile
# the rest is not kept.
SNAPLEN: Final = 4096
PAUSE: Final = 0.01  # seconds, between two looks into the file

FIN, RST = 0x01, 0x04  # RFC 9293 section 3.1

FIELDS: Final = (
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "tcp.seq",
    "tcp.len",
    "tls.alert_message.desc",
)


@attrs.frozen
class Packet:
    """One TCP packet, as tshark reads it."""

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

    alerts: tuple[int, ...]
    """The TLS alerts that end in it, decrypted."""


async def capture(
    file: Path, play: Callable[[], Awaitable[Collection[tuple[int, int]]]]
) -> str | None:
    """Write what is on the loopback interface to *file* while *play* runs.

    Args:
      file: Where to.
      play: Makes connections, and returns their ports, client and server. They
        have to end: it goes on until the ends of all of them are in the file.

    Returns:
      None, or why this machine does not let us.
    """
    async with running(
        *(require("dumpcap"), "-q", "-i", "lo", "-f", "tcp and host 127.0.0.1"),
        *("-s", str(SNAPLEN), "-B", "16", "-P", "-w", str(file)),
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


def _all_ended(file: Path, connections: Collection[tuple[int, int]]) -> bool:
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


async def read(file: Path, secrets: Path, servers: Collection[int]) -> list[Packet]:
    """What tshark makes of a captured file.

    Args:
      file: The capture.
      secrets: What ``SSLKEYLOGFILE`` got, of all connections.
      servers: The ports that spoke TLS.
    """
    tshark = await trio.run_process(
        [
            *(require("tshark"), "-n", "-r", str(file), "-T", "fields"),
            *(word for field in FIELDS for word in ("-e", field)),
            *("-o", f"tls.keylog_file:{secrets}"),
            *(word for port in servers for word in ("-d", f"tcp.port=={port},tls")),
        ],
        capture_stdout=True,
        capture_stderr=True,
    )
    return [_packet(*line.split("\t")) for line in tshark.stdout.decode().splitlines()]


def _packet(
    source: str, destination: str, flags: str, start: str, size: str, alerts: str
) -> Packet:
    return Packet(
        source=int(source),
        destination=int(destination),
        fin=bool(int(flags, 16) & FIN),
        reset=bool(int(flags, 16) & RST),
        start=int(start),
        size=int(size),
        alerts=tuple(int(number) for number in alerts.split(",") if number),
    )
