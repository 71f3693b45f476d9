"""What `PeerSuite` relies on: labs that misbehave, captures, rows, the page."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trustme

from harness.build import BuildError, compiled
from tests.support import VERSIONS, Files, write_files
from trio_tlsdown import (
    ShutdownOutcome as Outcome,
    ShutdownReport,
    TLSFailedError,
    TraceKind,
)

from . import lab as labs, table
from .endings import TABLE
from .lab import Lab, open_lab
from .labs import python_lab
from .peer import Deviation, Key, Peer, sends_decode_error
from .playing import UNSEEN, play
from .programs import require_module
from .rows import VARIABLE, VARIES, RealProgram, Remark, Row, record, row_of
from .servers import reserved_port
from .suite import PeerSuite
from .unplayed import PLAYS, REQUIRED

LINK = "https://example.org"
BLOCKING = (sys.executable, "-m", "tests.interop.labs.blocking_ssl")
COROUTINES = python_lab("asyncio_protocols")
KEY = Key("3A", "TLSv1.3", "server")
COMPLETE = ShutdownReport(
    outcome=Outcome.COMPLETE,
    close_notify_sent=True,
    close_notify_received=True,
    first="local",
    discarded=0,
    elapsed=0,
    error=None,
)
ROW = Row(
    peer="X",
    peer_version="X 1",
    tls="TLSv1.3",
    role="server",
    situation="3A",
    crossed="> close_notify",
    report="SENT, secure",
)


def shell(script: str) -> Sequence[str]:
    """A lab that listens nowhere."""
    return ["sh", "-c", f"echo listening 1 Nobody 1.0; {script}"]


@pytest.mark.parametrize("command", [BLOCKING, COROUTINES])
async def test_a_lab_says_what_it_cannot_do(
    tmp_path: Path, command: Sequence[str]
) -> None:
    async with open_lab(command, tmp_path) as lab:
        [answer] = await lab.tries("stand-on-your-head")
        assert answer.startswith("failed error")
        with pytest.raises(AssertionError, match="failed error"):
            await lab.does("stand-on-your-head")


async def leave_in_the_middle(lab: Lab) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lab.does, "anything")
        await lab.program.says("heard")
        nursery.cancel_scope.cancel()


async def test_a_lab_is_given_time_to_settle(tmp_path: Path) -> None:
    script = "read x; echo heard >&2; read x; echo done; read x"
    async with open_lab(shell(script), tmp_path) as lab:
        await leave_in_the_middle(lab)
        await lab.program.type(b"go on\n")
        await lab.settles()
        assert lab.said == ["done"]


async def test_a_lab_that_does_not_settle_has_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labs, "SETTLES", 0)
    script = "read x; echo heard >&2; exec cat"
    async with open_lab(shell(script), tmp_path) as lab:
        await leave_in_the_middle(lab)
        await lab.settles()
        await lab.program.ended.wait()
        with pytest.raises(AssertionError, match="gone: heard"):
            await lab.does("anything")


def test_a_lab_that_refuses_fails_each_test(tmp_path: Path) -> None:
    keys = [KEY._replace(role="client"), Key("8 MiB A", "TLSv1.3", "client")]
    runs = trio.run(
        play, keys, shell("while read x; do echo failed to; done"), tmp_path
    )
    for key in keys:
        with pytest.raises(ExceptionGroup) as caught:
            _ = runs[key]
        assert caught.value.subgroup(AssertionError)


def test_a_handshake_that_fails_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_another_ca(folder: Path) -> Files:
        files = write_files(folder)
        trustme.CA().cert_pem.write_to_path(files.ca)
        return files

    monkeypatch.setattr(labs, "write_files", write_another_ca)
    keys = [KEY._replace(role="client")]
    runs = trio.run(play, keys, BLOCKING, tmp_path)
    with pytest.raises(ExceptionGroup) as caught:
        _ = runs[keys[0]]
    # Whichever was first.
    assert caught.value.subgroup((TLSFailedError, AssertionError))


def test_without_a_capture_all_is_played_and_the_witness_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("TLSDOWN_REQUIRE_PEERS", raising=False)
    runs = trio.run(play, [KEY], BLOCKING, tmp_path)
    suite = suite_of()
    suite.test_the_peer_and_we_agree_how_it_ended(runs, KEY)
    with pytest.raises(pytest.skip.Exception, match="tshark is not installed"):
        suite.test_the_wire_shows_what_our_trace_and_report_say(runs, KEY)
    assert row_of(suite.peer, KEY, runs).crossed == UNSEEN


def test_a_deviation_that_is_not_declared_fails_and_so_does_one_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "rows"))
    cut = Key("1B", "TLSv1.3", "server")
    runs = trio.run(play, [cut, KEY], BLOCKING, tmp_path)
    runs.require_witness()
    declared = sends_decode_error(LINK)
    fails = Deviation(
        situations=["1B", "3A"],
        does="fails",
        link=LINK,
        changes={"outcome": Outcome.FAILED},
    )
    for key, deviations in (
        (cut, []),
        (cut, [declared, fails]),
        (KEY, [fails]),
        (cut, [attrs.evolve(declared, changes={"crossed": "< decode_error"})]),
    ):
        suite = suite_of(*deviations)
        with pytest.raises(AssertionError):
            suite.test_the_peer_and_we_agree_how_it_ended(runs, key)
        with pytest.raises(AssertionError):
            suite.test_what_came_of_it_is_recorded(runs, key)
    suite_of(declared).test_what_came_of_it_is_recorded(runs, cut)
    [row] = table.read(tmp_path / "rows")
    assert row.crossed == "< decode_error"
    assert [link for _, link in row.remarks] == [LINK]


def test_what_is_asked_for_is_no_deviation() -> None:
    same = Deviation(
        situations=["3A"], does="answers", link=LINK, changes={"secure": True}
    )
    with pytest.raises(AssertionError):
        suite_of(same).test_a_deviation_is_none_that_is_asked_for(KEY)


def test_where_a_race_decides_the_row_is_the_same_whichever_way_it_went(
    tmp_path: Path,
) -> None:
    cut = Key("1B", "TLSv1.3", "server")
    runs = trio.run(play, [cut], BLOCKING, tmp_path)
    runs.require_witness()
    always = sends_decode_error(LINK)
    sometimes = Deviation(
        situations=["1B"],
        does="now and then says goodbye",
        link=LINK,
        changes={"crossed": "< close_notify", "closes": True},
        sometimes=True,
    )
    peer = suite_of(always, sometimes).peer
    assert peer.is_captured(cut)
    row = row_of(peer, cut, runs)
    assert (row.crossed, row.report) == (VARIES, "ABORTED")
    assert len(row.remarks) == 2


def test_a_trace_that_leaves_something_out_is_found_out(tmp_path: Path) -> None:
    left_out = {
        Key("3A", "TLSv1.3", "server"): TraceKind.CLOSE_NOTIFY_RECEIVED,
        Key("3A", "TLSv1.3", "client"): TraceKind.CLOSE_NOTIFY_SENT,
        Key("cut B", "TLSv1.3", "server"): TraceKind.FIN_RECEIVED,
        Key("reset B", "TLSv1.3", "server"): TraceKind.RESET_RECEIVED,
    }
    runs = trio.run(play, [*left_out], BLOCKING, tmp_path)
    suite = suite_of()
    for key, kind in left_out.items():
        suite.test_the_wire_shows_what_our_trace_and_report_say(runs, key)
        trace = [event for event in runs[key].trace if event.kind is not kind]
        runs.of[key] = attrs.evolve(runs[key], trace=trace)
        with pytest.raises(AssertionError):
            suite.test_the_wire_shows_what_our_trace_and_report_say(runs, key)


def suite_of(*deviations: Deviation) -> PeerSuite:
    suite = PeerSuite()
    suite.peer = Peer(  # type: ignore[misc]
        name="X", command=lambda folder: BLOCKING, deviations=deviations
    )
    return suite


async def from_port(ours: int, host: str, port: int) -> trio.SocketStream:
    client = trio.socket.socket()
    client.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
    await client.bind((host, ours))
    await client.connect((host, port))
    return trio.SocketStream(client)


def test_connections_from_one_port_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first ends with a RST, which leaves nothing in TIME_WAIT.
    keys = [Key("1A", "TLSv1.2", "server"), Key("cut B", "TLSv1.3", "server")]
    with reserved_port() as port:
        monkeypatch.setattr(trio, "open_tcp_stream", partial(from_port, port))
        runs = trio.run(play, keys, BLOCKING, tmp_path)
    suite = suite_of()
    for key in keys:
        suite.test_the_wire_shows_what_our_trace_and_report_say(runs, key)


def test_a_program_is_compiled_once_for_each_source(tmp_path: Path) -> None:
    source = tmp_path / "source"
    names = []
    for text in ("one", "one", "two"):
        source.write_text(text)
        names.append(compiled(tmp_path, [str(source)], ["cp", str(source), "OUTPUT"]))
        assert Path(names[-1]).read_text() == text
    assert names[0] == names[1] != names[2]


def test_what_a_compiler_printed_is_in_the_error(tmp_path: Path) -> None:
    compiler = ["sh", "-c", "echo fatal error: no boost >&2; exit 1"]
    with pytest.raises(BuildError, match="sh failed: fatal error: no boost"):
        compiled(tmp_path, [], compiler)


def test_a_missing_module_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TLSDOWN_REQUIRE_PEERS", raising=False)
    require_module("trio")
    with pytest.raises(pytest.skip.Exception, match="no_such_module is not installed"):
        require_module("no_such_module")


def test_a_deviation_needs_a_link_and_a_situation_that_there_is() -> None:
    Deviation(situations=["1A"], does="dances", link=LINK, changes={})
    with pytest.raises(AssertionError, match="needs a link"):
        Deviation(situations=["1A"], does="dances", link="", changes={})
    with pytest.raises(AssertionError, match="unknown"):
        Deviation(situations=["7C"], does="dances", link=LINK, changes={})


def test_rows_are_kept_where_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    record(ROW)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "rows"))
    record(ROW)
    assert table.read(tmp_path / "rows") == [ROW]


def test_real_programs_are_a_part_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    record(ROW)
    assert "## Programs" not in table.page(table.read(tmp_path))
    remark = Remark("dances", f"{LINK}/blob/v1/dance.c")
    program = RealProgram("Python", "client", sys.executable)
    program.ended("TLSv1.3", "we shut down", COMPLETE)
    for version in VERSIONS:
        program.ended(version, "we cut", COMPLETE, remark=remark)
        program.ended(version, "we wave", COMPLETE, either=[TABLE["2A"]])
    _, _, part = table.page(table.read(tmp_path)).partition("## Programs")
    _, _, part = part.partition("### Python (client)")
    assert [line.split(" | ")[:3] for line in part.splitlines()[4:7]] == [
        ["| 1B: we cut", "> close_notify, < close_notify", "COMPLETE, secure"],
        [
            "| 2A/3A: we shut down (TLSv1.3)",
            "> close_notify, < close_notify",
            "COMPLETE, secure",
        ],
        ["| we wave", VARIES, VARIES],
    ]
    assert f"[dances]({LINK}/blob/v1/dance.c)" in part
    assert f"| Python | {platform.python_version()} | v1 |" in part


def test_what_a_program_does_not_play_needs_a_reason_and_what_it_plays_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "rows"))
    monkeypatch.setattr(table, "PAGE", tmp_path / "page")
    program = RealProgram("Python", "client", sys.executable)
    program.ended("TLSv1.3", "we cut", COMPLETE)
    reasons = {"Python": {"it has not learnt it": REQUIRED}}
    monkeypatch.setattr(table, "REASONS", reasons)
    arguments = [str(tmp_path / "rows")]
    assert table.main(arguments) == "Python: 1B: a row and a reason"
    reasons["Python"] = {"it has not learnt it": REQUIRED[2:]}
    assert table.main(arguments) == "Python: 1A"
    reasons["Python"] = {"it": REQUIRED[:1], "has not learnt it": REQUIRED[2:]}
    assert table.main(arguments) == 0
    page = (tmp_path / "page").read_text()
    assert f"| {REQUIRED[0]} |  | not played |  | it |" in page


def test_all_that_a_row_can_be_is_required() -> None:
    assert set(PLAYS.values()) == set(REQUIRED)


def test_a_peer_that_plays_on_one_version_only_is_marked_so() -> None:
    other = attrs.evolve(ROW, tls="TLSv1.2")
    assert table.mark([ROW, other], "3A") == "✓"
    assert table.mark([ROW, attrs.evolve(other, played=False)], "3A") == "✓ 1.3"
    deviates = attrs.evolve(other, remarks=[("dances", LINK)])
    assert table.mark([ROW, deviates], "3A") == "≠"
    assert table.mark([attrs.evolve(ROW, played=False)], "3A") == "-"


def test_the_page_merges_what_ended_alike() -> None:
    client, other = attrs.evolve(ROW, role="client"), attrs.evolve(ROW, tls="TLSv1.2")
    lines = {
        "3A (TLSv1.3, as a server)": [ROW],
        "3A (TLSv1.3)": [ROW, client],
        "3A (as a server)": [ROW, other],
        "3A (TLSv1.2 as a server, TLSv1.3 as a client)": [other, client],
        "3A": [ROW, client, other, attrs.evolve(other, role="client")],
    }
    for name, rows in lines.items():
        assert [line[0] for line in table.lines_of(rows)] == [name]
    error = attrs.evolve(client, report="TRUNCATED")
    assert len(list(table.lines_of([ROW, error]))) == 2


def test_the_page_is_out_of_date_when_a_row_differs_but_not_when_a_version_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows"
    monkeypatch.setattr(table, "PAGE", tmp_path / "page")
    monkeypatch.setenv(VARIABLE, str(rows))
    record(ROW)
    assert table.main([str(rows)]) == 0
    make = [sys.executable, "-m", "tests.interop.table", str(rows), "--check"]
    assert subprocess.run(make, check=False, capture_output=True).returncode == 1  # noqa: S603
    shutil.rmtree(rows)
    record(attrs.evolve(ROW, peer_version="X 2"))
    assert table.main([str(rows), "--check"]) == 0
    shutil.rmtree(rows)
    record(attrs.evolve(ROW, remarks=[("dances", LINK)]))
    assert "dances" in str(table.main([str(rows), "--check"]))
    shutil.rmtree(rows)
    record(attrs.evolve(ROW, remarks=[]))
    page = tmp_path / "page"
    page.write_text(page.read_text().replace("| X | X 1 |", "| Y | X 1 |"))
    assert "-| Y |" in str(table.main([str(rows), "--check"]))
