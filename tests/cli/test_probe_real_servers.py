"""The verdicts on other people's servers are those that they deserve."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import pytest
import trio

from harness.process import running
from tests.interop import test_postgresql
from tests.interop.programs import require
from tests.interop.servers import connect, key_and_certificate, reserved_port
from tests.interop.tunnels import Site
from trio_tlsdown.cli.probe._results import HostResult

from .probing import probed, serve_tcp, settings_of, verdicts, web
from .real_servers import CHECKS, ROWS, Row

pytestmark = pytest.mark.long

AT_A_TIME = 4  # a probe waits, for the most part
PATIENCE = 60  # seconds

Results: TypeAlias = dict[Row, HostResult | BaseException]


async def plain(stream: trio.SocketStream) -> None:
    """A web server without TLS."""
    with suppress(trio.BrokenResourceError):  # some proxies reset it
        await web(stream)


async def play(row: Row, folder: Path, behind: int) -> HostResult:
    """Start the server and probe it."""
    with reserved_port() as port:
        site = Site(folder, key_and_certificate(folder), port, behind)
        # One of them is compiled first, which takes long.
        command = await trio.to_thread.run_sync(row.command, site)
        async with running(*command, patience=PATIENCE) as program:
            await trio.aclose_forcefully(await connect(port, program))
            return await probed(port, settings_of(folder, protocol=row.protocol))


async def play_all(folders: dict[Row, Path]) -> Results:
    """Probe servers side by side; those that are proxies have a plain one behind."""
    results: Results = {}
    limit = trio.CapacityLimiter(AT_A_TIME)

    async def one(row: Row, folder: Path, behind: int) -> None:
        async with limit:
            try:
                results[row] = await play(row, folder, behind)
            except (
                AssertionError,
                OSError,
                ExceptionGroup,
                pytest.skip.Exception,
            ) as exc:
                results[row] = exc

    async with trio.open_nursery() as nursery:
        behind = await nursery.start(serve_tcp, plain)
        async with trio.open_nursery() as probes:
            for row, folder in folders.items():
                probes.start_soon(one, row, folder, behind)
        nursery.cancel_scope.cancel()
    return results


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Results:
    """Those of the servers that the selected tests are about."""
    folders = {
        row: tmp_path_factory.mktemp("server")
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        if isinstance(row := item.callspec.params.get("row"), Row)
    }
    return trio.run(play_all, folders)


def result_of(row: Row, results: Results) -> HostResult:
    result = results[row]
    if isinstance(result, BaseException):
        raise result
    return result


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_verdicts_on_a_real_server_are_those_that_it_deserves(
    row: Row, results: Results
) -> None:
    result = result_of(row, results)
    assert [version.error for version in result.versions] == [None, None]
    for version in result.versions:
        wanted = row.wanted(version.tls)
        assert wanted.items() <= verdicts(result, version.tls).items()
        assert version.resembles == row.resembles(version.tls)


# It takes more than a command to start it.
postgresql = test_postgresql.port


async def test_postgresql_gets_the_verdicts_that_it_deserves(
    postgresql: int, tmp_path: Path
) -> None:
    result = await probed(postgresql, settings_of(tmp_path, protocol="postgres"))
    for version in result.versions:
        found = verdicts(result, version.tls)
        passed = {check for check in CHECKS if found[check] == "pass"}
        assert set(CHECKS) - passed <= {"answers-after-half-close"}
        assert version.resembles is None


async def test_a_server_that_is_missing_skips_its_own_test_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TLSDOWN_REQUIRE_PEERS", raising=False)
    missing = Row(name="none", command=lambda _: (require("no-such-program-anywhere"),))
    with pytest.raises(pytest.skip.Exception, match="not installed"):
        result_of(missing, await play_all({missing: tmp_path}))
