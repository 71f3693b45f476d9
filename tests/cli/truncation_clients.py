"""Which HTTP clients notice that an answer was cut: docs/probe-clients.md.

    python -m tests.cli.truncation_clients

writes the page anew. Each client asks each rogue for an answer of which only the first
half comes, and tells what its user would be told.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import attrs
import trio
import trustme

from trio_tlsdown.cli._rogue import ANSWERS, Framing
from trio_tlsdown.testing import NAME, serve_rogue

from .probing import in_thread

PAGE: Final = Path(__file__).parents[2] / "docs" / "probe-clients.md"
MARK: Final = (
    "<!-- what follows is made by python -m tests.cli.truncation_clients -->\n"
)

# What follows the half answer, and how the answer announces its length.
CASES: Final[dict[str, tuple[str, Framing]]] = {
    "FIN, no length": ("cut_before_close_notify", "close"),
    "FIN inside a record, no length": ("cut_inside_record", "close"),
    "reset, no length": ("reset_before_close_notify", "close"),
    "fatal alert, no length": ("fatal_alert", "close"),
    "FIN, Content-Length": ("cut_before_close_notify", "length"),
    "FIN, chunked": ("cut_before_close_notify", "chunked"),
    "close_notify, Content-Length": ("close_without_waiting", "length"),
}

REQUESTS: Final = """
import requests, sys
answer = requests.get(sys.argv[1], verify=sys.argv[2], timeout=10)
sys.stdout.write(answer.text)
"""
URLLIB: Final = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
with urllib.request.urlopen(sys.argv[1], timeout=10, context=context) as answer:
    sys.stdout.write(answer.read().decode())
"""
NODE: Final = """
fetch(process.argv[1]).then(answer => answer.text())
  .then(text => process.stdout.write(text))
  .catch(error => { console.error(error); process.exit(1); });
"""
JAVA: Final = """
import java.net.URI;
import java.net.http.*;
import java.time.Duration;
class Get {
    public static void main(String[] args) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(args[0]))
            .timeout(Duration.ofSeconds(10)).build();
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        System.out.print(
            client.send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
}
"""
GO: Final = """
package main
import ("crypto/tls"; "crypto/x509"; "fmt"; "io"; "net/http"; "os")
func main() {
    pem, _ := os.ReadFile(os.Args[2])
    pool := x509.NewCertPool()
    pool.AppendCertsFromPEM(pem)
    client := http.Client{Transport: &http.Transport{
        TLSClientConfig: &tls.Config{RootCAs: pool}}}
    answer, err := client.Get(os.Args[1])
    if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
    body, err := io.ReadAll(answer.Body)
    if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
    os.Stdout.Write(body)
}
"""


def find(program: str) -> str | None:
    """The path of a program, if it is installed."""
    return shutil.which(program, path=sysconfig.get_path("scripts")) or shutil.which(
        program
    )


def told(*command: str) -> str | None:
    """The first number with a dot in what a program says of itself."""
    path = find(command[0])
    if path is None:
        return None
    said = subprocess.run(  # noqa: S603
        [path, *command[1:]], capture_output=True, text=True, check=False, timeout=60
    )
    found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return found[0] if found else None


@attrs.frozen
class Client:
    """A client, and how to have it get a page."""

    name: str

    @property
    def version(self) -> str | None:
        """Which is installed here; None if none is."""
        match self.name:
            case "curl":
                return told("curl", "--version")
            case "Python requests":
                return version("requests") if find_spec("requests") else None
            case "Python urllib":
                return sys.version.split()[0]
            case "Node.js fetch":
                return told("node", "--version")
            case "Java HttpClient":
                return told("java", "-version")
            case "Go net/http":
                return told("go", "version")
            case _:
                return None

    def command(
        self, url: str, ca: Path, folder: Path
    ) -> tuple[list[str], dict[str, str]]:
        """What to run, and with which environment beside the usual one."""
        match self.name:
            case "curl":
                return ["curl", "-sS", "-m", "10", "--cacert", str(ca), url], {}
            case "Python requests":
                return [sys.executable, "-c", REQUESTS, url, str(ca)], {}
            case "Python urllib":
                return [sys.executable, "-c", URLLIB, url, str(ca)], {}
            case "Node.js fetch":
                return ["node", "-e", NODE, url], {"NODE_EXTRA_CA_CERTS": str(ca)}
            case "Java HttpClient":
                store = folder / "trust.p12"
                if not store.exists():
                    _make_trust_store(ca, store)
                    (folder / "Get.java").write_text(JAVA)
                options = {
                    "trustStore": store,
                    "trustStorePassword": "changeit",
                }
                flags = [
                    f"-Djavax.net.ssl.{key}={value}" for key, value in options.items()
                ]
                return ["java", *flags, str(folder / "Get.java"), url], {}
            case _:
                program = folder / "get"
                if not program.exists():
                    (folder / "get.go").write_text(GO)
                    subprocess.run(  # noqa: S603
                        [str(find("go")), "build", "-o", program, folder / "get.go"],
                        check=True,
                        timeout=300,
                    )
                return [str(program), url, str(ca)], {}

    def notices(self, url: str, ca: Path, folder: Path) -> bool:
        """Whether the client tells its user that the answer is no whole one."""
        command, extra = self.command(url, ca, folder)
        result = subprocess.run(  # noqa: S603
            [find(command[0]) or command[0], *command[1:]],
            capture_output=True,
            check=False,
            timeout=60,
            env={**_environment(), **extra},
        )
        if result.returncode == 0:
            assert result.stdout == b"half an answer", result
        return result.returncode != 0


@cache
def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if "proxy" not in name.lower()
    }


def _make_trust_store(ca: Path, store: Path) -> None:
    subprocess.run(  # noqa: S603
        [
            *(str(find("keytool")), "-importcert", "-noprompt", "-alias", "ca"),
            *("-file", str(ca), "-keystore", str(store), "-storetype", "PKCS12"),
            *("-storepass", "changeit"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )


CLIENTS: Final = [
    Client(name)
    for name in (
        *("curl", "Python requests", "Python urllib", "Node.js fetch"),
        *("Java HttpClient", "Go net/http"),
    )
]


@contextmanager
def rogue_url(case: str, ca: trustme.CA) -> Iterator[str]:
    """Where a rogue serves a case."""
    name, framing = CASES[case]

    async def serve(*, task_status: trio.TaskStatus[int]) -> None:
        async with trio.open_nursery() as nursery:
            says = ANSWERS[framing]
            _, port = await nursery.start(
                partial(serve_rogue, name, hears=1, says=says, ca=ca)
            )
            task_status.started(port)

    with in_thread(serve) as port:
        yield f"https://{NAME}:{port}/"


def row_of(client: Client, folder: Path) -> dict[str, bool]:
    """What a client does in each case."""
    ca = trustme.CA()
    pem = folder / "ca.pem"
    ca.cert_pem.write_to_path(pem)
    row: dict[str, bool] = {}
    for case in CASES:
        with rogue_url(case, ca) as url:
            row[case] = client.notices(url, pem, folder)
    return row


def read_page(page: Path = PAGE) -> dict[str, dict[str, bool]]:
    """The table of the page, by client and version."""
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in page.read_text("utf-8").partition(MARK)[2].splitlines()
        if line.startswith("|")
    ]
    heads = rows[0][1:]
    return {
        row[0]: {
            case: cell == "notices" for case, cell in zip(heads, row[1:], strict=True)
        }
        for row in rows[2:]
    }


def table(rows: Mapping[str, Mapping[str, bool]]) -> str:
    """The table, in Markdown."""
    lines = ["| | " + " | ".join(CASES) + " |", "|---" * (len(CASES) + 1) + "|"]
    for name, row in rows.items():
        cells = ("notices" if row[case] else "**does not**" for case in CASES)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(page: Path = PAGE, clients: Iterable[Client] = CLIENTS) -> None:
    """Write the page anew."""
    rows: dict[str, dict[str, bool]] = {}
    for client in (each for each in clients if each.version is not None):
        with tempfile.TemporaryDirectory() as folder:
            rows[f"{client.name} {client.version}"] = row_of(client, Path(folder))
    head = page.read_text("utf-8").partition(MARK)[0]
    page.write_text(head + MARK + "\n" + table(rows), "utf-8")


if __name__ == "__main__":
    main()  # pragma: no cover
