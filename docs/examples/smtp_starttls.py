"""An SMTP client that switches to TLS with STARTTLS (RFC 3207) and sends a mail."""

import ssl
from collections.abc import Sequence

import trio

from trio_tlsdown import TLSStream

LONGEST_REPLY = 2**14  # bytes


class SMTPError(Exception):
    """The server refused, or does not speak SMTP."""


class SMTP:
    """One side of an SMTP conversation, over any stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.unread = b""

    async def command(self, line: str, expected: int) -> None:
        await self.stream.send_all(line.encode("ascii") + b"\r\n")
        await self.reply(expected)

    async def reply(self, expected: int) -> None:
        """Read a reply, whose last line has a space after the code."""
        last = False
        while not last:
            while b"\r\n" not in self.unread:
                chunk = await self.stream.receive_some()
                if not chunk or len(self.unread) > LONGEST_REPLY:
                    raise SMTPError("the reply has no end")
                self.unread += chunk
            line, _, self.unread = self.unread.partition(b"\r\n")
            if line[:3] != str(expected).encode():
                raise SMTPError(line.decode("ascii", "replace"))
            last = line[3:4] != b"-"


async def send_mail(
    transport: trio.abc.Stream,
    context: ssl.SSLContext,
    host: str,
    sender: str,
    recipients: Sequence[str],
    mail: bytes,
) -> None:
    """Send a mail over a TCP connection that was just opened; end the connection."""
    clear = SMTP(transport)
    await clear.reply(220)
    await clear.command("EHLO client.example", 250)
    await clear.command("STARTTLS", 220)
    if clear.unread:
        # An attacker can inject clear text that would be taken for something that was
        # said under TLS (CVE-2011-0411).
        raise SMTPError("something came in clear text behind STARTTLS")
    async with TLSStream(transport, context, server_hostname=host) as stream:
        smtp = SMTP(stream)
        await smtp.command("EHLO client.example", 250)
        await smtp.command(f"MAIL FROM:<{sender}>", 250)
        for recipient in recipients:
            await smtp.command(f"RCPT TO:<{recipient}>", 250)
        await smtp.command("DATA", 354)
        for line in mail.splitlines():
            stuffed = b"." + line if line.startswith(b".") else line
            await stream.send_all(stuffed + b"\r\n")
        await smtp.command(".", 250)
        await smtp.command("QUIT", 221)
