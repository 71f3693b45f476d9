"""Gemini, server and client: the answer has no length, so close_notify is its end."""

import trio

from trio_tlsdown import TLSStream

LONGEST_URL = 1024  # bytes

PAGES = {"/": "# Hello\nThis is a page.\n"}


class GeminiError(Exception):
    """The server refused, or its answer is not Gemini."""


async def read_line(stream: trio.abc.ReceiveStream, limit: int) -> tuple[bytes, bytes]:
    """Read a line; return it, and what followed it."""
    data = b""
    while b"\r\n" not in data:
        chunk = await stream.receive_some()
        if not chunk or len(data) > limit:
            raise GeminiError("no line, or too long a line")
        data += chunk
    line, _, rest = data.partition(b"\r\n")
    return line, rest


async def handler(stream: TLSStream[trio.SocketStream]) -> None:
    """Answer one request. The server sends close_notify when this returns."""
    url, _ = await read_line(stream, LONGEST_URL)
    path = url.decode().removeprefix("gemini://").partition("/")[2]
    if (page := PAGES.get("/" + path)) is None:
        await stream.send_all(b"51 there is no such page\r\n")
    else:
        await stream.send_all(b"20 text/gemini\r\n" + page.encode())


async def fetch(stream: trio.abc.Stream, url: str) -> str:
    """Return a complete page.

    Raises:
      TruncatedError: it was cut. Showing half a page lets an attacker choose where it
        ends.
      GeminiError: the server refused.
    """
    await stream.send_all(url.encode() + b"\r\n")
    status, body = await read_line(stream, LONGEST_URL)
    if not status.startswith(b"20 "):
        raise GeminiError(status.decode(errors="replace"))
    return b"".join([body, *[chunk async for chunk in stream]]).decode()
