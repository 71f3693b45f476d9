"""What the peers send each other, where it matters."""

import hashlib

DATA = hashlib.shake_256(b"data").digest(2**20)


def digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()
