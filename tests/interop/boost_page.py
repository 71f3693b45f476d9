"""Makes ``docs/boost_asio.md`` from what test runs recorded.

    python -m tests.interop.boost_page ROWS          write it
    python -m tests.interop.boost_page ROWS --check  check that it is up to date

The versions of Boost and OpenSSL are shown, but not compared.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Final

import attrs

from harness.build import BOOST_LIBRARIES, BOOST_OPTIONS

from .boost_scenarios import (
    PAIRS,
    VARIANTS,
    Came,
    Code,
    Pair,
    Played,
    Variant,
    usual,
)
from .rows import write
from .situations import TLS13
from .table import VERSIONS_OF_PEERS, make, table, where

PAGE: Final = Path("docs/boost_asio.md")
ROWS: Final = "boost_asio/rows"

ANSWER: Final = "https://stackoverflow.com/questions/25587403"
# The version that the text and its links are about.
BOOST: Final = "Boost 1.74 (2020)"
DETAIL: Final = (
    "https://github.com/boostorg/asio/blob/boost-1.74.0/include/boost/asio/ssl/detail"
)
REFERENCE: Final = (
    "https://www.boost.org/doc/libs/1_74_0/doc/html/boost_asio/reference/ssl__stream"
)
ASIO: Final = "https://github.com/chriskohlhoff/asio/issues"
LAB: Final = "boost/lab.cpp"
BUILD: Final = " ".join(
    ["g++", *BOOST_OPTIONS, f"tests/interop/labs/{LAB}", "-o", "lab", *BOOST_LIBRARIES]
)

INTRODUCTION: Final = f"""\
# The four scenarios: Boost.Asio and trio_tlsdown

Why does `ssl::stream::async_shutdown()` always finish with an error?
[The answer to that question]({ANSWER}) (Boost 1.55, 1.56) names four ways to end a TLS
connection, and what each party is told in them. Here they are with Boost.Asio of
{BOOST}, and with `TLSStream`: A shuts down, B is the other. This page was made
from test runs; `make interop` makes it anew.

An error code is shown as the program was given it by the handler: operation, category,
value, message. For us it is the report: its outcome, and `secure`. Where nothing is
said of TLS or a role, both versions ended alike, whichever party was the client.
"""

# By scenario and party.
ANSWERED: Final = {
    "1A": "SSL short read",
    "2A": "SSL short read",
    "3A": "`asio.misc` 2, eof",
    "3B": "success",
    "4A": "operation_aborted",
    "4B": "success",
}

EXPLANATION: Final = f"""\
In the second variant of 1, and of 4, our server has sent no session tickets yet: like
`trio.SSLStream` it sends them with its first data. With our server Boost.Asio's client has
nothing unread there.

## What is not as the answer said

With {BOOST}, that is:

- **3.** The party that shuts down first is told success, not eof: `shutdown_op`
  [takes eof for success]({DETAIL}/shutdown_op.hpp). `ssl::stream::shutdown()`, which
  blocks, has [no such line]({ASIO}/1663).
- **1 and 2.** "Short read" has become `stream_truncated`, in a category of its own,
  `asio.ssl.stream`. And it comes only if TCP ended with a FIN. If B had something unread
  when it closed, its kernel sends RST, and the code is of the category `system`.
- **3, with a read pending.** Both close_notify have crossed, the read was told eof, and
  the shutdown is told that it was cancelled: it waits behind the read on a timer, is woken
  by cancelling that, and [keeps the timer's code]({DETAIL}/io.hpp) for its own. If
  B's answer is there before it waits, it is told success: a race decides.
- **4.** There is [no call]({ASIO}/571) that sends close_notify and does not wait. The
  workaround works, but its code is `operation_aborted` or "bad file descriptor", as it
  happened to be waiting or about to when the other handler closed the socket.
- **Data.** A shutdown that meets data of B fails, and nothing can be read after that. If A
  then closes, RST destroys what A had sent and B had not read. `TLSStream.shutdown()` reads on
  until B's close_notify, within `max_unread`.
- **Time.** [`async_shutdown`]({REFERENCE}/async_shutdown.html) has no deadline: it waits for as
  long as B neither answers nor closes. `TLSStream.shutdown()` waits for `policy.timeout`.

## "Not the SSL category, so it was secure"

That was the answer's rule: unless the category of the code is SSL, or the operation was
cancelled too early, the connection was closed securely. **With {BOOST} it is wrong,
in both directions.** `asio.ssl.stream` is not the SSL category (that is `asio.ssl`), and it means
truncated. Neither is `system`, and ECONNRESET is an end without the other's close_notify.
By the rule both would be secure, and [an attacker can cause both]({TLS13}). Conversely
`operation_aborted` is told after half an exchange (4) and after a complete one (3, a read
pending), in which nothing was cancelled too early. A category says which
layer of the program spoke last; it does not say what the other party has said.

`ShutdownReport.secure` is not derived from an error. It rests on facts: whether our
close_notify was sent, whether the other's was received, and how the transport ended.
COMPLETE, SENT, and ABORTED after our alert had left are secure; nothing else is. Whether
the other party has told us all is `peer_data_complete`: its close_notify was received.

## By hand

The party that plays Boost.Asio is [`{LAB}`](../tests/interop/labs/{LAB}). On Debian it
needs `g++`, `libboost-dev` and `libssl-dev`:

```console
$ {BUILD}
$ openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost \\
    -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem
$ ./lab cert.pem key.pem cert.pem
```

It says on which port it listens. Start it in a second terminal, too, and type what
[the line protocol](../tests/interop/README.md#the-line-protocol) knows; this lab knows
some more. `accept` in the first and `connect PORT` in the second connect them (`connect
PORT TLSv1.2` if you like). Let each greet the other, `send 5` here and `receive 5` there;
without that the session tickets lie unread. Then, A and B in either:

| scenario | type, in this order |
| --- | --- |
| 1 | B: `close-transport`, A: `shutdown` |
| 1, tickets unread | on TLS 1.3, without a greeting, A in the first (`accept`): likewise |
| 2 | A: `shutdown`, B: `receive`, B: `close-transport` |
| 2, alert unread | A: `shutdown`, B: `await-input`, B: `close-transport` |
| 3 | A: `shutdown`, B: `receive`, B: `shutdown` |
| 3, a read pending | A: `shutdown reading`, B: `receive`, B: `shutdown` |
| 4 | A: `close`, B: `receive`, B: `shutdown` |
| 4, tickets unread | on TLS 1.3, without a greeting, A in the second (`connect`): likewise |
| data | B: `send 524288`, A: `send 1048576`, A: `shutdown`, B: `receive` |
"""


@attrs.frozen(kw_only=True)
class BoostRow:
    """How one connection ended; the role is A's."""

    variant: str
    tls: str
    role: str
    pair: str
    a: str
    b: str
    boost: str
    """Its version."""


def record(played: Played, came: tuple[Came, Came], boost: str) -> None:
    """Write it down, if a folder is named."""
    variant, (a, b) = played.variant, came
    row = BoostRow(
        variant=variant.name,
        tls=played.version,
        role=played.role,
        pair=played.pair,
        a=in_words(a, variant, variant.either),
        b=in_words(b, variant, ()),
        boost=boost,
    )
    write(ROWS, row)


def in_words(came: Came, variant: Variant, either: Sequence[Code]) -> str:
    if came.report is None:
        words = [
            f"{code.operation}: {alternatives(code, either)}"
            for code in usual(came.told, either)
        ]
    else:
        secure = "secure" if came.report.secure else "not secure"
        words = [f"{came.report.outcome.name}, {secure}"]
    if variant.got:
        words.append(f"got {came.got} of the data")
    return "; ".join(words) or "-"


def alternatives(code: Code, either: Sequence[Code]) -> str:
    codes = either if code in either else [code]
    return " or ".join(f"`{each.words}`" for each in codes)


def page(rows: Sequence[BoostRow]) -> str:
    """The page, in Markdown."""
    head = ["", "", *(f"Boost.Asio, with {who}" for who in ("itself", "`TLSStream`"))]
    head += ["`TLSStream`, with Boost.Asio", "the answer of then"]
    versions = table(["", "when this page was made"], [["Boost.Asio", rows[0].boost]])
    return "\n".join(
        [
            INTRODUCTION,
            table(head, lines_of(rows)),
            EXPLANATION,
            f"{VERSIONS_OF_PEERS}\n\n{versions}",
        ]
    )


# In which connection a party is: Boost.Asio with itself, with us, and us.
COLUMNS: Final[dict[str, Sequence[Pair]]] = {
    "A": PAIRS,
    "B": ("Boost, Boost", "we, Boost", "Boost, we"),
}


def lines_of(rows: Sequence[BoostRow]) -> Iterator[list[str]]:
    """A line for A and one for B; versions and roles that ended alike share it."""
    of = {(row.variant, row.tls, row.role, row.pair): row for row in rows}
    for variant in VARIANTS:
        says = f"**{variant.name}**: {variant.says}"
        for party, pairs in COLUMNS.items():
            alike: dict[tuple[str, ...], list[BoostRow]] = {}
            for tls, role in product(variant.versions, variant.roles):
                played = [of[variant.name, tls, role, pair] for pair in pairs]
                cells = tuple(row.a if party == "A" else row.b for row in played)
                alike.setdefault(cells, []).append(place(played[0], party))
            then = ANSWERED.get(variant.name[:1] + party, "")
            for cells, whose in alike.items():
                yield [says, party + where(whose), *cells, then]
                says = ""


def place(row: BoostRow, party: str) -> BoostRow:
    """With the role of this party."""
    if party == "A":
        return row
    return attrs.evolve(row, role="client" if row.role == "server" else "server")


def read(folder: Path) -> list[BoostRow]:
    lines = (folder / f"{ROWS}.jsonl").read_text().splitlines()
    return [BoostRow(**json.loads(line)) for line in lines]


def main(arguments: Sequence[str]) -> str | int:
    """Make the page, or check it; return the exit code."""
    folder, *options = arguments
    return make(PAGE, page(read(Path(folder))), options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
