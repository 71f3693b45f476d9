"""Which hosts to probe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

# A name, an IPv4 address, or an IPv6 address (in brackets if a port follows).
TARGET: Final = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<name>[\w.-]+))(?::(?P<port>\d+))?"
)
BARE_IPV6: Final = re.compile(r"[0-9A-Fa-f.]*(?::[0-9A-Fa-f.]*){2,}(?:%\w+)?")


@attrs.frozen
class Target:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """As people write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_target(text: str, port: int) -> Target:
    """Read ``HOST[:PORT]``.

    Args:
      text: A name or an address; an IPv6 address with a port is in brackets.
      port: If there is none.

    Raises:
      ValueError: it is none.
    """
    if BARE_IPV6.fullmatch(text):
        return Target(text, port)
    found = TARGET.fullmatch(text)
    if found is None:
        raise ValueError(f"not HOST or HOST:PORT: {text!r}")
    number = port if found["port"] is None else int(found["port"])
    if not 0 < number < 2**16:
        raise ValueError(f"no port from 1 to 65535: {text!r}")
    return Target(found["ipv6"] or found["name"], number)


def read_targets(lines: Iterable[str], port: int) -> Iterator[Target]:
    """Read a target from each line; blank lines and ``# comments`` are left out.

    Raises:
      ValueError: a line has none.
    """
    for line in lines:
        if text := line.partition("#")[0].strip():
            yield parse_target(text, port)
