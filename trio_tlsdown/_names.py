"""Host names: the one to connect to, and the one the certificate must match."""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from typing import Final

import idna

from ._util import check_type

MAX_NAME: Final = 253  # bytes in text form: RFC 1035 section 2.3.4

NAME: Final = re.compile(r"[\w-]{1,63}(\.[\w-]{1,63})*", re.ASCII)

# What users pass by mistake: a URL, a name with a port, an address in brackets.
SPELLED_OUT: Final = re.compile(
    r"(?P<scheme>\w+://)?"
    r"(?:\[(?P<address>[^]]+)]|(?P<name>[^][/:]+))"
    r"(?::(?P<port>\d+))?"
    r"(?:/.*)?"
)


def check_host(host: object, argument: str = "host") -> None:
    """Refuse a URL, a port, brackets or nothing, which no resolver would understand.

    Raises:
      TypeError: *host* is neither str nor bytes.
      ValueError: it is more than a host, or empty.
    """
    check_type(argument, host, str | bytes)
    assert isinstance(host, str | bytes)
    if not host:
        raise ValueError(f"{argument} must be a name or an address, not {host!r}")
    text = host if isinstance(host, str) else host.decode("latin-1")
    parts = SPELLED_OUT.fullmatch(text)
    if parts is None or parts["name"] == text:
        return
    port = parts["port"] or ("443" if parts["scheme"] == "https://" else None)
    also = f" and port {port}" if port and argument == "host" else ""
    raise ValueError(
        f"{argument} must be a name or an address, without scheme, port or brackets:"
        f' pass "{parts["address"] or parts["name"]}"{also}, not {host!r}'
    )


def certificate_name(host: str | bytes) -> bytes:
    """The name that the certificate of *host* must match; also for SNI, if no address.

    A trailing dot and the zone of an address only matter for finding the host. They
    are not in certificates, and RFC 6066 section 3 does not allow them in SNI.

    Raises:
      ValueError: *host* is neither a name nor an address.
    """
    check_host(host, "server_hostname")
    try:
        text = host if isinstance(host, str) else host.decode("ascii")
        if address_family(text) is not None:
            return text.partition("%")[0].encode("ascii")
        if not text.isascii():
            # Python would use IDNA 2003: https://bugs.python.org/issue17305
            text = idna.encode(text, uts46=True).decode("ascii")
    except UnicodeError as exc:
        raise ValueError(
            f"server_hostname {host!r} is not a valid name: {exc}"
        ) from exc
    name = text.removesuffix(".")
    if len(name) > MAX_NAME:
        raise ValueError(
            f"server_hostname has {len(name)} bytes; a name has at most {MAX_NAME}"
        )
    if not NAME.fullmatch(name):
        raise ValueError(f"server_hostname must be a name or an address, not {host!r}")
    return name.encode("ascii")


def address_family(host: str | bytes) -> socket.AddressFamily | None:
    """IPv4 or IPv6 if *host* is an address, perhaps with a zone; None if it is a name."""
    text = host if isinstance(host, str) else host.decode("latin-1")
    try:
        version = ip_address(text.partition("%")[0]).version
    except ValueError:
        return None
    return socket.AF_INET if version == 4 else socket.AF_INET6
