"""Boost.Asio, on top of OpenSSL, and how it sees the four scenarios."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from harness.build import boost, preprocess
from trio_tlsdown import ShutdownOutcome as Outcome
from trio_tlsdown.testing import memory_tls_pair

from . import boost_page
from .boost_scenarios import ALL, All, Came, Code, Played, codes, play_all, usual
from .endings import TABLE, check_report
from .peer import Cannot, Deviation, Peer, answers_in_tls12
from .programs import require, skip_if_missing
from .rows import VARIABLE
from .suite import PeerSuite

SOURCE = (
    "https://github.com/boostorg/asio/blob/boost-1.74.0/include/boost/asio/ssl/detail"
)


def command(folder: Path) -> Sequence[str]:
    with skip_if_missing():
        return [boost(folder), "lab"]


@pytest.mark.long
class TestBoostAsio(PeerSuite):
    peer = Peer(
        name="Boost.Asio",
        command=command,
        cannot=[
            Cannot(
                situations=["half-close B"],
                why="its shutdown always waits for the other's close_notify",
                link="https://github.com/chriskohlhoff/asio/issues/571",
            ),
        ],
        deviations=[
            # Neither engine::write nor SSL_write looks at what was received.
            answers_in_tls12(f"{SOURCE}/impl/engine.ipp"),
            # io_op: a close_notify that the socket does not take at once waits, and the
            # handler of the write that failed closes the socket meanwhile.
            Deviation(
                situations=["8 MiB B"],
                does="now and then loses the close_notify: its close does not wait until the"
                " socket has taken it",
                link=f"{SOURCE}/io.hpp",
                changes={
                    "outcome": Outcome.TRUNCATED,
                    "our_alerts": ">",
                    "secure": False,
                    "crossed": "> close_notify",
                },
                sometimes=True,
            ),
        ],
    )


@pytest.fixture(scope="module")
def everything(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> All:
    """The connections that the selected tests are about."""
    chosen = [
        played
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.originalname == test_a_scenario_ends_as_it_has_to.__name__
        for played in item.callspec.params.values()
        if isinstance(played, Played)
    ]
    labs = command(request.config.cache.mkdir("labs"))
    return trio.run(play_all, chosen, labs, tmp_path_factory.mktemp("boost"))


@pytest.mark.long
@pytest.mark.parametrize("played", ALL, ids=str)
def test_a_scenario_ends_as_it_has_to(everything: All, played: Played) -> None:
    came = everything[played]
    races = played.variant.either, ()
    for party, expected, either in zip(came, played.expected, races, strict=True):
        if party.report is None:
            told = [code.brief for code in usual(party.told, either)]
            assert "; ".join(told) == expected
        else:
            check_report(party.report, TABLE[expected])
    got = tuple(party.got for party in came)
    assert got == played.variant.got.get(played.pair, ("none", "none"))
    boost_page.record(played, came, everything.boost_version)


def test_a_lab_that_refuses_fails_each_scenario(tmp_path: Path) -> None:
    script = "echo listening 1 Nobody 1.0; while read x; do echo failed to; done"
    came = trio.run(play_all, ALL[:2], ["sh", "-c", script], tmp_path)
    for played in ALL[:2]:
        with pytest.raises(ExceptionGroup) as caught:
            _ = came[played]
        assert caught.value.subgroup(AssertionError)


def test_a_code_is_known_whatever_the_version_of_boost() -> None:
    said = "end error 0 shutdown: asio.ssl 167772451 application data"
    for line in (said, f"{said} (SSL routines)"):
        [code] = codes(line)
        assert code == Code("shutdown", "asio.ssl", "167772451", "application data")
        assert code.brief == "shutdown: asio.ssl application data"


def test_where_a_race_decides_both_codes_are_as_good() -> None:
    [variant] = {played.variant for played in ALL if played.variant.either}
    first, other = variant.either
    eof = Code("read", "asio.misc", "2", "End of file")
    for code in variant.either:
        assert usual([code, eof], variant.either) == [first, eof]
        came = Came([code], None, "none")
        assert boost_page.in_words(came, variant, variant.either) == (
            f"shutdown: `{first.words}` or `{other.words}`"
        )


def test_a_missing_header_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = require("g++")
    monkeypatch.delenv("TLSDOWN_REQUIRE_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no/such\.hpp"):
        with skip_if_missing():
            preprocess(compiler, "c++", "no/such.hpp")


def test_the_page_is_out_of_date_when_a_code_differs_but_not_when_a_version_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded(message: str, version: str) -> list[str]:
        rows = tmp_path / version
        monkeypatch.setenv(VARIABLE, str(rows))
        came = Came([Code("shutdown", "system", "0", message)], None, "none")
        for played in ALL:
            boost_page.record(played, (came, came), version)
        return [str(rows)]

    monkeypatch.setattr(boost_page, "PAGE", tmp_path / "page")
    assert boost_page.main(recorded("Success", "1")) == 0
    assert boost_page.main([*recorded("Success", "2"), "--check"]) == 0
    assert "Failure" in str(boost_page.main([*recorded("Failure", "3"), "--check"]))
    page = [sys.executable, "-m", "tests.interop.boost_page", *recorded("Failure", "4")]
    assert subprocess.run([*page, "--check"], check=False).returncode == 1  # noqa: S603
    monkeypatch.delenv(VARIABLE)
    boost_page.record(ALL[0], (Came([], None, ""),) * 2, "5")


async def test_the_page_says_what_our_report_does() -> None:
    client, server = await memory_tls_pair()
    await client.aclose()
    await trio.aclose_forcefully(server)
    for stream, words in (client, "SENT, secure"), (server, "ABORTED, not secure"):
        came = Came([], stream.report, "none")
        assert boost_page.in_words(came, ALL[0].variant, ()) == words
