"""The secrets of our own sessions, to look into what OpenSSL does not tell."""

from __future__ import annotations

import os
import ssl
import tempfile
import weakref
from typing import Final

SECRET: Final = b"SERVER_TRAFFIC_SECRET_0"


class KeyLog:
    """The secrets with which servers encrypt, of all sessions of a context, on TLS 1.3.

    Args:
      context: It gets a key log, unless it has one (``SSLKEYLOGFILE``): then there are
        no secrets here. Nor are there on Windows.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._secrets: dict[bytes, bytes] = {}
        self._file: int | None = None
        if not context.keylog_filename and os.name == "posix":
            self._file, path = tempfile.mkstemp(prefix="trio_tlsdown-")
            weakref.finalize(self, os.close, self._file)
            context.keylog_filename = path
            os.unlink(path)  # OpenSSL has opened it; nobody else is to

    def take(self, client_random: bytes) -> bytes | None:
        """The secret of a session, which is kept no longer; None if there is none.

        Args:
          client_random: Of the session: RFC 9846 section 4.1.2.
        """
        if self._file is None:
            return None
        log = os.pread(self._file, os.fstat(self._file).st_size, 0)
        os.ftruncate(self._file, 0)  # OpenSSL appends
        for line in log.splitlines():
            label, _, rest = line.partition(b" ")
            if label == SECRET:
                random, _, secret = rest.partition(b" ")
                self._secrets[random] = bytes.fromhex(secret.decode())
        return self._secrets.pop(client_random.hex().encode(), None)
