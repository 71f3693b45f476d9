"""A lab: the standard library's `ssl.SSLSocket`, which blocks."""

from __future__ import annotations

import os
import platform
import select
import socket
import ssl
from contextlib import suppress

from . import lines


class Lab:
    """One connection at a time; what a method returns is the answer."""

    def __init__(self) -> None:
        self.server, self.client = lines.contexts()
        self.listener = socket.create_server((lines.HOST, 0))

    def accept(self) -> str:
        raw, _ = self.listener.accept()
        return self.handshake(raw, self.server, server_side=True)

    def connect(self, port: str) -> str:
        raw = socket.create_connection((lines.HOST, int(port)))
        return self.handshake(raw, self.client, server_hostname=lines.SERVER_NAME)

    def handshake(
        self, raw: socket.socket, context: ssl.SSLContext, **how: object
    ) -> str:
        self.count = lines.Count()
        raw.settimeout(20)
        # The default takes a cut for an end.
        self.socket = context.wrap_socket(raw, suppress_ragged_eofs=False, **how)  # type: ignore[arg-type]
        return f"handshaken {self.socket.version()}"

    def send(self, size: str) -> str:
        self.socket.sendall(self.count.stretch(size))
        return "sent"

    def receive(self, size: str | None = None) -> str:
        self.count.expect(size)
        try:
            while self.count.left:
                self.count.came(self.socket.recv(self.count.left))
        except OSError as error:
            return self.count.answer(error)
        return self.count.answer()

    def half_close(self) -> str:
        """Send close_notify: undocumented, but so does OpenSSL's call."""
        select.select([], [self.socket], [])
        self.socket.settimeout(0)
        # Ours has been sent by then, and the answer has not come.
        with suppress(ssl.SSLWantReadError):
            self.socket.unwrap()
        self.socket.settimeout(None)
        return "done"

    def shutdown(self) -> str:
        try:
            self.socket.unwrap().close()
        except OSError as error:
            self.socket.close()
            return lines.end(0, error)
        return lines.end(0)

    def close(self) -> str:
        """``SSLSocket.close()`` sends no close_notify."""
        self.half_close()
        return self.close_transport()

    def close_transport(self) -> str:
        self.socket.close()
        return "done"

    def cut_inside(self) -> str:
        os.write(self.socket.fileno(), lines.PART_OF_A_RECORD)
        return self.close_transport()

    def reset(self) -> str:
        lines.reset_when_closed(self.socket.fileno())
        return self.close_transport()


def main() -> None:
    lab = Lab()
    lines.say(
        *("listening", lab.listener.getsockname()[1]),
        *("Python", platform.python_version(), "with", ssl.OPENSSL_VERSION),
    )
    while command := lines.read_command():
        try:
            lines.say(lines.method(lab, command[0])(*command[1:]))
        except Exception as error:  # noqa: BLE001 (any error is an answer)
            lines.say("failed", lines.kind(error), error)


main()
