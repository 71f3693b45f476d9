"""Which hosts to probe."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import attrs

# A name, an IPv4 address, or an IPv6 address (in brackets if a port follows).
TARGET: Final = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<name>[\w.-]+))(?::(?P<port>\d+))?"
)
IPV6: Final = re.compile(r"[0-9A-Fa-f.]*(?::[0-9A-Fa-f.]*){2,}(?:%\w+)?")


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
    if IPV6.fullmatch(text):
        if _is_ipv6(text):
            return Target(text, port)
        address, _, last = text.rpartition(":")
        hint = f" (did you mean [{address}]:{last}?)" if _is_ipv6(address) else ""
        raise ValueError(f"not an IPv6 address: {text!r}{hint}")
    found = TARGET.fullmatch(text)
    if found is None or (found["ipv6"] and not _is_ipv6(found["ipv6"])):
        raise ValueError(f"not HOST or HOST:PORT: {text!r}")
    # Python reads no number of thousands of digits; five are enough.
    number = port if found["port"] is None else int(found["port"][:6])
    if not 0 < number < 2**16:
        raise ValueError(f"the port must be between 1 and 65535: {text!r}")
    return Target(found["ipv6"] or found["name"], number)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
