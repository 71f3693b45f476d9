"""Host names: which host to connect to, and whom its certificate has to be for."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

import idna

from ._util import check_type

MAX_NAME: Final = 253  # bytes: RFC 1035 section 2.3.4, in the form without length bytes

NAME: Final = re.compile(r"[\w-]{1,63}(\.[\w-]{1,63})*", re.ASCII)

# What is easily passed for a host: a URL, a name with its port, an address in brackets.
SPELLED_OUT: Final = re.compile(
    r"(?P<scheme>\w+://)?"
    r"(?:\[(?P<address>[^]]+)]|(?P<name>[^][/:]+))"
    r"(?::(?P<port>\d+))?"
    r"(?:/.*)?"
)


def check_host(host: str | bytes, argument: str = "host") -> None:
    """Refuse what is more than a host, before anybody looks it up.

    Raises:
      TypeError: it is neither str nor bytes.
      ValueError: it is a URL, has a port, or is in brackets.
    """
    check_type(argument, host, str | bytes)
    text = host if isinstance(host, str) else host.decode("latin-1")
    parts = SPELLED_OUT.fullmatch(text)
    if parts is None or parts["name"] == text:
        return
    port = parts["port"] or ("443" if parts["scheme"] == "https://" else None)
    also = f" and port {port}" if port and argument == "host" else ""
    raise ValueError(
        f"{argument} is a name or an address, not a URL, and has no port or brackets:"
        f' pass "{parts["address"] or parts["name"]}"{also}, not {host!r}'
    )


def certificate_name(host: str | bytes) -> bytes:
    """Whom the certificate of *host* has to be for. SNI says it, if it is no address.

    A final dot and the zone of an address help to find a host. They are in no
    certificate, and RFC 6066 section 3 allows none in SNI.

    Raises:
      ValueError: it is no name and no address.
    """
    check_host(host, "server_hostname")
    try:
        text = host if isinstance(host, str) else host.decode("ascii")
        address = text.partition("%")[0]
        if _is_address(address):
            return address.encode("ascii")
        if not text.isascii():
            # Python would encode it by the old IDNA: https://bugs.python.org/issue17305
            text = idna.encode(text, uts46=True).decode("ascii")
    except UnicodeError as exc:
        raise ValueError(f"server_hostname {host!r} is no name: {exc}") from exc
    name = text.removesuffix(".")
    if len(name) > MAX_NAME:
        raise ValueError(
            f"server_hostname has {len(name)} bytes, a name {MAX_NAME} at most"
        )
    if not NAME.fullmatch(name):
        raise ValueError(f"server_hostname must be a name or an address, not {host!r}")
    return name.encode("ascii")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
