"""What the peers send each other, where it matters."""

import hashlib

DATA = hashlib.shake_256(b"data").digest(2**20)


def digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


PERIOD = bytes(range(251))


def stretch(start: int, size: int) -> bytes:
    """What a lab sends: byte i of a direction is i modulo 251.

    251 is prime, so that lost, repeated or swapped records show.
    """
    first = start % len(PERIOD)
    return (PERIOD * (size // len(PERIOD) + 2))[first : first + size]
