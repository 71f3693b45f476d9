"""The command."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import cli
from benchmarks.catalogue import WORKLOADS
from benchmarks.cli import main
from benchmarks.implementations import IMPLEMENTATIONS, Implementation, program_of
from benchmarks.results import Results, load, save
from benchmarks.runner import Emit, Measures, run

from .faking import Scripted, measured, measurement


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "receives"], "no workload 'receives'; there are: shutdown, close"),
        (["--peers", "trio"], "no implementation 'trio'; there are: trio_tlsdown"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--program", "mine"], "--program: 'mine' is not NAME=COMMAND"),
        (["--program", "mine='true"], '--program: "mine=\'true": No closing quotation'),
        (["--program", "mine=/no/such"], "--program: mine: no program '/no/such'"),
        (
            ["--program", "go=true", "--peers", "uvloop"],
            "go is the name of another one",
        ),
        (
            ["--program", "a=true", "--program", "a=false"],
            "a is the name of another one",
        ),
        (["--report", "/no/such/file"], "no file that --json wrote"),
        (["--json", "/no/such/file"], "/no/such/file cannot be written: No such file"),
        (["--json", "/"], "/ cannot be written: Is a directory"),
        (["--page", "/no/such/file"], "/no/such/file cannot be written: No such file"),
        (["--page", __file__], "test_cli.py has no lines <!-- figures"),
        (["--page", __file__, "--quick"], "--page is for a whole run"),
    ],
)
def test_a_mistake_is_reported_in_a_line_before_anything_is_measured(
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "run", None)
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


def test_the_list_has_all_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in [*WORKLOADS, *IMPLEMENTATIONS])


def test_a_real_run_writes_json_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    arguments = ["--quick", "--only", "ping-pong", "--peers", "ssl.SSLSocket"]
    assert main([*arguments, "--json", str(file)]) == 0
    assert "ssl.SSLSocket" in capsys.readouterr().out
    outcomes = json.loads(file.read_text("utf-8"))["outcomes"]
    assert outcomes["ping-pong"]["ssl.SSLSocket"]["rounds"][0]["p50"] > 0


def test_a_users_program_is_measured_beside_the_chosen_implementations() -> None:
    options = cli.parser().parse_args(
        ["--peers", "uvloop", "--program", "mine=echo 'b c'"]
    )
    results, implementations = cli.prepare(options)
    assert [each.name for each in implementations] == ["uvloop", "mine"]
    assert implementations[-1].prepare() == ["echo", "b c"]
    assert list(results.outcomes["close"]) == ["uvloop", "mine"]
    assert results.rounds == 7
    assert program_of("a=echo b=c").prepare() == ["echo", "b=c"]


def report(tmp_path: Path, *, quick: bool) -> int:
    # As fast as SSLStream: a target that is missed.
    names = ("trio_tlsdown", "trio.SSLStream")
    results = measured(Scripted(measurement()), "receive", names=names, quick=quick)
    file = tmp_path / "results.json"
    save(results, file)
    return main(["--report", str(file)])


def test_a_missed_target_is_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(tmp_path, quick=False) == 1
    assert capsys.readouterr().err == (
        "TARGET MISSED: receive: rate >= 2.2 x trio.SSLStream, measured 1.000\n"
    )


def test_a_quick_run_misses_no_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(tmp_path, quick=True) == 0
    assert capsys.readouterr().out.startswith("receive, reduced")


def test_a_program_that_failed_is_an_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--quick", "--only", "close", "--peers", "ssl.SSLSocket"]
    assert main([*arguments, "--program", "mine=false"]) == 1
    printed = capsys.readouterr().err
    assert "FAILED: mine failed at close: exit code 1: no error from" in printed
    assert " client close 127.0.0.1 " in printed


def test_an_interrupted_run_shows_its_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupt)
    assert main(["--only", "close", "--peers", "uvloop"]) == 1
    printed = capsys.readouterr()
    assert "close: close of an idle connection" in printed.out
    assert "INTERRUPTED" in printed.err


def test_a_file_that_cannot_be_written_afterwards_does_not_stop_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "results.json"

    def replace_file(*_: object) -> None:
        file.unlink()
        file.mkdir()

    monkeypatch.setattr(cli, "run", replace_file)
    assert main(["--only", "close", "--peers", "uvloop", "--json", str(file)]) == 1
    printed = capsys.readouterr()
    assert "close: close of an idle connection" in printed.out
    assert "FAILED: " in printed.err
    assert "Is a directory" in printed.err


def test_a_bug_does_not_lose_the_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_afterwards(
        results: Results,
        implementations: list[Implementation],
        _: Measures,
        emit: Emit,
    ) -> None:
        run(results, implementations, Scripted(measurement()), emit)
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "run", fail_afterwards)
    assert main(["--only", "close", "--peers", "uvloop", "--rounds", "1"]) == 1
    printed = capsys.readouterr()
    assert "1,000 - 1,000" in printed.out
    assert "ZeroDivisionError" in printed.err
    assert "INTERRUPTED" in printed.err


# The reference server waits for this program; it waits for the test.
STUCK = """
import os, sys, time
with open(sys.argv[1], "w") as pipe:
    print(os.getpid(), file=pipe)
time.sleep(60)
"""


def first_line_of(pipe: Path) -> str:
    """Opening it must not block: the writer may have failed before."""
    fd = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert select.select([fd], [], [], 30) != ([], [], [])
    with open(fd, encoding="ascii") as text:
        return text.readline()


@pytest.fixture
def ctrl_c_is_not_ignored() -> Iterator[None]:
    """A shell that starts us in the background has us, and our children, ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_not_ignored")
@pytest.mark.parametrize(
    "what", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_ctrl_c_in_the_middle_of_a_run_keeps_the_results(
    what: signal.Signals, tmp_path: Path
) -> None:
    pipe, stuck, file = (tmp_path / name for name in ("pipe", "stuck.py", "json"))
    os.mkfifo(pipe)
    stuck.write_text(STUCK, "utf-8")
    arguments = ["--quick", "--only", "close", "--peers", "ssl.SSLSocket"]
    mine = shlex.join([sys.executable, str(stuck), str(pipe)])
    command = [sys.executable, "-m", "benchmarks", *arguments]
    with subprocess.Popen(  # noqa: S603 - our own
        [*command, "--program", f"mine={mine}", "--json", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        pid = first_line_of(pipe).strip()
        assert Path(f"/proc/{pid}").exists()
        run.send_signal(what)
        out, err = run.communicate(timeout=30)
    assert run.returncode == 1
    assert not Path(f"/proc/{pid}").exists()
    assert "ssl.SSLSocket" in out
    assert "INTERRUPTED: not everything was measured" in err
    assert "Traceback" not in err
    results = load(file)
    assert results.median("close", "p50", "ssl.SSLSocket")
    assert results.outcomes["close"]["mine"].notes == ["not measured"]
