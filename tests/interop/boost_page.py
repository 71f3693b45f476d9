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

from harness.build import BOOST_LIBRARIES, BOOST_OPTIONS, BOOST_PROGRAM

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

QUESTION: Final = (
    "https://stackoverflow.com/questions/25587403/"
    "boost-asio-ssl-async-shutdown-always-finishes-with-an-error"
)
ANSWER: Final = "https://stackoverflow.com/a/25703699"
# The version that the text and its links are about.
BOOST: Final = "Boost 1.74 (2020)"
DETAIL: Final = (
    "https://github.com/boostorg/asio/blob/boost-1.74.0/include/boost/asio/ssl/detail"
)
REFERENCE: Final = (
    "https://www.boost.org/doc/libs/1_74_0/doc/html/boost_asio/reference/ssl__stream"
)
ASIO: Final = "https://github.com/chriskohlhoff/asio/issues"
MAIN: Final = f"harness/peers/{BOOST_PROGRAM}"
LAB: Final = "harness/peers/boost/lab.hpp"
BUILD: Final = " ".join(["g++", *BOOST_OPTIONS, MAIN, "-o", "asio", *BOOST_LIBRARIES])

INTRODUCTION: Final = f"""\
# The four scenarios: Boost.Asio and trio_tlsdown

On Stack Overflow somebody asked:
[boost asio ssl async_shutdown always finishes with an error?]({QUESTION})
[Tanner Sansbury's answer]({ANSWER}), for Boost 1.55 and 1.56, distinguishes four ways to end a
TLS connection, and says what each party is told. (Both are under CC BY-SA, by the authors named
there, and are retold here.) This page shows the four with Boost.Asio from {BOOST}, and with
`TLSStream`: A shuts down, B is the other party. It was generated from test runs;
`make interop` repeats them.

For Boost.Asio, a cell shows the error code that the handler was given: operation, category,
value, message. For `TLSStream` it shows the report: the outcome, and `secure`. If a row does not
mention TLS or a role, both versions ended alike, whichever party was the client.
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
In the second variant of 1 and of 4, our server has not sent its session tickets yet, because it
sends them together with its first data, like `trio.SSLStream`. So a Boost.Asio client has
nothing unread there.

## What has changed since the answer

With {BOOST}:

- **3.** The party that shuts down first gets success, not eof: `shutdown_op`
  [treats eof as success]({DETAIL}/shutdown_op.hpp). The blocking `ssl::stream::shutdown()`
  [does not]({ASIO}/1663).
- **1 and 2.** "Short read" has become `stream_truncated`, in a category of its own,
  `asio.ssl.stream`. It is reported only if TCP ended with a FIN. If B had unread data when it
  closed, B's kernel sends RST, and the code has the category `system`.
- **3, with a read pending.** Both close_notify alerts have crossed and the read got eof, but
  the shutdown reports that it was cancelled. It waits for the read on a timer, the end of the
  read cancels the timer, and the shutdown [passes the timer's code on]({DETAIL}/io.hpp). If
  B's answer arrives before it starts to wait, it gets success: a race decides.
- **4.** There is [no call]({ASIO}/571) that sends close_notify without waiting. The workaround
  works, but yields `operation_aborted` or "bad file descriptor", depending on whether the
  shutdown was already waiting when the other handler closed the socket.
- **Data.** A shutdown that meets data from B fails, and after that nothing more can be read. If
  A then closes, RST destroys what A had sent and B had not read. `TLSStream.shutdown()`
  receives until B's close_notify, within `max_unread`.
- **Time.** [`async_shutdown`]({REFERENCE}/async_shutdown.html) has no deadline: it waits as long
  as B neither answers nor closes. `TLSStream.shutdown()` waits for `policy.timeout` at most.

## "Not the SSL category, so it was secure"

That was the answer's rule of thumb: if the code's category is not SSL, and the operation was not
cancelled too early, the connection was closed securely. **With {BOOST} this no longer
holds, in either direction.** `asio.ssl.stream` is not the SSL category (that is `asio.ssl`), yet
it means that the connection was truncated. Nor is `system`, yet ECONNRESET is an end without the
other party's close_notify. By the rule both would be secure, and
[an attacker can cause both]({TLS13}). Conversely, `operation_aborted` is reported after half an
exchange (4), but also after a complete one (3, with a read pending). A category says which layer
of the program spoke last, not what the other party said.

`ShutdownReport.secure` is not derived from an error. It rests on facts: whether our close_notify
was sent, whether the peer's was received, and how the transport ended. COMPLETE and SENT are
secure, and so is ABORTED if our alert had left; nothing else is. `peer_data_complete` says
whether the peer's close_notify was received, so that we have all of its data.

## By hand

[`lab.hpp`](../{LAB}) plays the party with Boost.Asio. On Debian it needs
`g++`, `libboost-dev` and `libssl-dev`:

```console
$ {BUILD}
$ openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost \\
    -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem
$ ./asio lab cert.pem key.pem cert.pem
```

It prints the port on which it listens. Start another one in a second terminal. Both understand
[the line protocol](../tests/interop/README.md#the-line-protocol) and a few commands more.
Connect them with `accept` in the first and `connect PORT` in the second (or
`connect PORT TLSv1.2`). Let each greet the other, with `send 5` in one and `receive 5` in the
other; without that, the session tickets remain unread. Then, with A and B in either terminal:

| scenario | type, in this order |
| --- | --- |
| 1 | B: `close-transport`, A: `shutdown` |
| 1, tickets unread | the same on TLS 1.3, without a greeting, A in the first terminal (`accept`) |
| 2 | A: `shutdown`, B: `receive`, B: `close-transport` |
| 2, alert unread | A: `shutdown`, B: `await-input`, B: `close-transport` |
| 3 | A: `shutdown`, B: `receive`, B: `shutdown` |
| 3, a read pending | A: `shutdown reading`, B: `receive`, B: `shutdown` |
| 4 | A: `close`, B: `receive`, B: `shutdown` |
| 4, tickets unread | the same on TLS 1.3, without a greeting, A in the second terminal (`connect`) |
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
    head += ["`TLSStream`, with Boost.Asio", "the answer (1.55, 1.56)"]
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
