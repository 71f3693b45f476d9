"""The verdicts on a server in which a library closes as its documentation says."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import trio

from tests.interop.lab import Lab, end, open_lab
from tests.interop.peer import Key, Peer
from tests.interop.suite import PeerSuite
from trio_tlsdown.cli.probe._observe import Limits
from trio_tlsdown.cli.probe._protocols import raw
from trio_tlsdown.cli.probe._results import HostResult

from .probing import probed, settings_of, verdicts

REQUEST = bytes(range(5))  # what a lab expects
PATIENT = Limits(handshake=20, answer=0.5)  # a lab has one connection at a time


def peers() -> Iterator[Peer]:
    """All that tests/interop has a lab of."""
    folder = Path(__file__).parents[1] / "interop"
    for path in sorted(folder.glob("test_peer_*.py")):
        module = import_module(f"tests.interop.{path.stem}")
        for value in vars(module).values():
            if isinstance(value, type) and value in PeerSuite.__subclasses__():
                yield value.peer


async def serve(lab: Lab) -> None:
    """Hear each client out, answer if it has said something, and close."""
    while True:
        _, heard = await lab.tries("accept", "receive")
        if heard.startswith("end") and end(heard).size:
            await lab.tries("send 7")
        await lab.tries("close")


async def probe(peer: Peer, folder: Path) -> HostResult:
    async with (
        open_lab(peer.command(folder), folder) as lab,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(serve, lab)
        settings = settings_of(folder, protocol=raw(REQUEST), limits=PATIENT)
        try:
            return await probed(lab.port, settings)
        finally:
            nursery.cancel_scope.cancel()
            lab.program.process.kill()  # it waits for the next client


@pytest.mark.long
@pytest.mark.parametrize("peer", list(peers()), ids=lambda peer: peer.name)
async def test_the_verdicts_on_a_library_are_what_it_was_seen_to_do_by_other_means(
    peer: Peer, tmp_path: Path
) -> None:
    result = await probe(peer, tmp_path)
    for version in result.versions:
        key = Key("half-close A", f"TLSv{version.tls}", "server")
        if peer.reason(key) is not None:  # it does not speak this version
            assert "handshake failed" in (version.error or "")
            continue
        half_close = "pass" if peer.endings(key)[0].received else "warn"
        wanted = {
            "answers-close-notify": "pass",
            "answers-after-half-close": half_close if version.tls == "1.3" else "n/a",
            "nothing-behind": "pass",
        }
        assert wanted.items() <= verdicts(result, version.tls).items()
        assert version.resembles is None
