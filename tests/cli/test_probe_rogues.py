"""Each behaviour of the test kit is recognised, and named."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.support import CA, needs_posix
from trio_tlsdown.cli.probe._checks import Version
from trio_tlsdown.cli.probe._contexts import make_contexts
from trio_tlsdown.cli.probe._key_log import KeyLog
from trio_tlsdown.cli.probe._observe import (
    Conversation,
    Experiment,
    Limits,
    ObserveError,
)
from trio_tlsdown.cli.probe._protocols import http
from trio_tlsdown.cli.probe._resembles import resembles
from trio_tlsdown.cli.probe._targets import Target
from trio_tlsdown.testing import BEHAVIOURS, NAME, serve_rogue

from .probing import probed, settings_of, verdicts, web_server, write_ca

PATIENT = Limits(handshake=5.0, answer=5.0)  # a flood takes long on a busy machine


@pytest.mark.long
@needs_posix("a key log without a name")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_every_rogue_is_recognised_and_named(
    tmp_path: Path, version: Version
) -> None:
    context = make_contexts([version], ca_file=str(write_ca(tmp_path)))[version]
    key_log = KeyLog(context)
    found: dict[str, str | None] = {}

    async def meet(name: str) -> None:
        host, port = await nursery.start(_serve, name)
        talk = Conversation(
            Target(host, port),
            http(),
            NAME,
            PATIENT,
            key_log=key_log,
        )
        try:
            seen = await talk.observe(Experiment.IDLE, context)
        except ObserveError as exc:
            found[name] = resembles({}, exc.refusal)
        else:
            found[name] = resembles({Experiment.IDLE: seen})

    async def _serve(
        name: str, *, task_status: trio.TaskStatus[tuple[str, int]]
    ) -> None:
        await serve_rogue(name, ca=CA, task_status=task_status)

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as clients:
            for name in BEHAVIOURS:
                clients.start_soon(meet, name)
        nursery.cancel_scope.cancel()
    assert found == {name: name for name in BEHAVIOURS}


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("cut_before_close_notify", {"ends-with-close-notify": "fail"}),
        ("cut_after_close_notify", {"answers-close-notify": "fail"}),
        ("reset_before_close_notify", {"ends-with-close-notify": "fail"}),
        ("bad_record", {"ends-with-close-notify": "fail"}),
        ("fatal_alert", {"ends-with-close-notify": "pass"}),
        ("fatal_close_notify", {"ends-with-close-notify": "pass"}),
        ("data_after_close_notify", {"nothing-behind": "warn"}),
        ("flood", {"answers-close-notify": "n/a"}),
    ],
)
async def test_a_rogue_gets_the_verdict_that_it_deserves(
    tmp_path: Path, name: str, bad: dict[str, str]
) -> None:
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
            await serve_rogue(name, ca=CA, task_status=task_status)

        _, port = await nursery.start(serve)
        result = await probed(port, settings_of(tmp_path, limits=PATIENT))
        nursery.cancel_scope.cancel()
    assert result.reachable
    for version in result.versions:
        assert version.resembles == name
        assert bad.items() <= verdicts(result, version.tls).items()


async def test_a_good_server_resembles_none_and_passes(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(web_server())
        result = await probed(port, settings_of(tmp_path))
        nursery.cancel_scope.cancel()
    assert result.verdict.value == "pass"
    assert result.banner == "nginx/1.22.1"
    for version in result.versions:
        assert version.resembles is None
        na = {"answers-after-half-close"} if version.tls == "1.2" else set()
        assert verdicts(result, version.tls) == {
            name: "n/a" if name in na else "pass"
            for name in verdicts(result, version.tls)
        }
