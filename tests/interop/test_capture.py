"""What the kernel sends again is no sign of the programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .capture import Packet, of_each

CLIENT, SERVER = 40000, 443
PORTS: Final = (CLIENT, SERVER)


@dataclass
class Sender:
    """Makes the packets of one end."""

    source: int

    def packet(
        self, start: int, *, size: int = 0, fin: bool = False, reset: bool = False
    ) -> Packet:
        return Packet(
            time=0.0,
            stream=0,
            source=self.source,
            destination=sum(PORTS) - self.source,
            fin=fin,
            reset=reset,
            start=start,
            size=size,
            records=(),
            in_records=0,
            payload=bytes(size),
        )


client, server = Sender(CLIENT), Sender(SERVER)
DATA: Final = client.packet(0, size=5)
FINS: Final = [client.packet(5, fin=True), server.packet(0, fin=True)]
RESET: Final = server.packet(1, reset=True)


def test_a_retransmission_counts_once() -> None:
    assert of_each([DATA, DATA, *FINS, FINS[0]], [PORTS]) == [[DATA, *FINS]]


def test_a_reset_that_answers_a_retransmission_after_both_ends_is_none() -> None:
    assert of_each([*FINS, FINS[0], RESET], [PORTS]) == [FINS]


def test_any_other_reset_is_one() -> None:
    for packets in ([*FINS, RESET], [DATA, RESET], [FINS[0], RESET]):
        assert of_each(packets, [PORTS]) == [packets]


def test_so_is_a_reset_after_a_retransmission_while_one_end_is_open() -> None:
    assert of_each([DATA, DATA, FINS[0], RESET], [PORTS]) == [[DATA, FINS[0], RESET]]
