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

from benchmarks import cli, compiled, page
from benchmarks.as_json import as_json
from benchmarks.catalogue import WORKLOADS
from benchmarks.cli import main
from benchmarks.plots import source
from benchmarks.results import Results
from benchmarks.stacks import STACKS, MissingError, of_program

from .faking import Scripted, measured, measurement, results

PUBLISH = "python -m benchmarks --report docs/benchmarks.json --page docs/benchmarks.md"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "receives"], "no workload 'receives'; there are: shutdown, close"),
        (["--peers", "trio"], "no peer 'trio'; there are: trio_tlsdown"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--program", "mine"], "--program: 'mine' is not NAME=COMMAND"),
        (["--program", "mine='true"], '--program: "mine=\'true": No closing quotation'),
        (["--program", "mine=/no/such"], "--program: mine: no program '/no/such'"),
        (["--program", "uvloop=true"], "--program: there is a uvloop already"),
        (["--program", "a=true", "--program", "a=false"], "there is a a already"),
        (["--report", "/no/such/file"], "no file that --json has written"),
        (["--json", "/no/such/file"], "/no/such/file cannot be written: No such file"),
        (["--json", "/"], "/ cannot be written: Is a directory"),
        (["--svg", __file__], "test_cli.py cannot be written: File exists"),
        (["--page", "/no/such/file"], "/no/such/file cannot be written: No such file"),
        (["--page", __file__], "test_cli.py has no lines <!-- figures"),
    ],
)
def test_a_mistake_is_told_in_a_line_before_anything_is_measured(
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


def test_the_list_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in [*WORKLOADS, *STACKS])


def test_a_real_run_writes_json_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    arguments = ["--quick", "--only", "ping-pong", "--peers", "ssl.SSLSocket"]
    assert main([*arguments, "--json", str(file)]) == 0
    assert "ssl.SSLSocket" in capsys.readouterr().out
    (workload,) = json.loads(file.read_text("utf-8"))["workloads"]
    assert workload["stacks"]["ssl.SSLSocket"]["figures"]["p50"]["median"] > 0


def test_a_users_program_is_measured_beside_the_chosen_peers() -> None:
    options = cli.parser().parse_args(
        ["--peers", "uvloop", "--program", "mine=echo 'b c'"]
    )
    run = cli.prepare(options)
    assert [stack.name for stack in run.stacks] == ["uvloop", "mine"]
    assert run.stacks[-1].prepare() == ["echo", "b c"]
    assert run.rounds == 7
    assert of_program("a=echo b=c").prepare() == ["echo", "b=c"]


def report(tmp_path: Path, *arguments: str, quick: bool) -> int:
    run = results("receive", names=("trio_tlsdown", "trio.SSLStream"), quick=quick)
    file = tmp_path / "found.json"
    # As fast as SSLStream: a target that is missed.
    found = as_json(measured(run, Scripted(measurement())), {"kernel": "none"})
    file.write_text(json.dumps(found), "utf-8")
    return main(["--report", str(file), *arguments])


def test_a_target_that_is_missed_is_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(tmp_path, quick=False) == 1
    said = capsys.readouterr().err
    assert (
        said == "TARGET MISSED: receive: rate >= 1.7 x trio.SSLStream, measured 1.000\n"
    )


def test_a_quick_run_only_informs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    svg = tmp_path / "svg"
    assert report(tmp_path, "--markdown", "--svg", str(svg), quick=True) == 0
    assert capsys.readouterr().out.startswith("### receive")
    assert (svg / "receive.svg").exists()


def test_a_page_gets_the_figures_between_its_markers_and_the_picture(
    tmp_path: Path,
) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"before\n{page.BEGIN}old\n{page.END}after\n", "utf-8")
    for _ in range(2):
        report(tmp_path, "--page", str(file), quick=True)
        text = file.read_text("utf-8")
        assert text.startswith(f"before\n{page.BEGIN}\n### receive, reduced")
        assert text.endswith(f"\n\n{page.END}after\n")
        assert "old" not in text
    assert (tmp_path / "page.svg").exists()


def test_the_published_page_and_picture_are_those_of_the_json() -> None:
    docs = Path(__file__).parents[2] / "docs"
    found = cli.load(docs / "benchmarks.json")
    text = (docs / "benchmarks.md").read_text("utf-8")
    assert text == page.with_figures(text, found), PUBLISH
    assert source(found) in (docs / "benchmarks.svg").read_text("utf-8"), PUBLISH


def test_a_program_that_failed_is_an_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--quick", "--only", "close", "--peers", "ssl.SSLSocket"]
    assert main([*arguments, "--program", "mine=false"]) == 1
    said = capsys.readouterr().err
    assert "FAILED: mine failed at close: exit code 1: without a word, of" in said
    assert " client close 127.0.0.1 " in said


def test_an_interrupted_run_shows_what_it_has_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", run)
    assert main(["--only", "close", "--peers", "uvloop"]) == 1
    said = capsys.readouterr()
    assert "close: close of an idle connection" in said.out
    assert "INTERRUPTED" in said.err


def test_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    file.write_text('{"format": 0}', "utf-8")
    with pytest.raises(ValueError, match="of format 0, not 2"):
        cli.load(file)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 2, "wo'])
def test_what_is_no_report_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match="no file that --json has written"):
        cli.load(file)


def test_what_cannot_be_written_afterwards_does_not_concern_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "found.json"

    def run(*_: object) -> None:
        file.unlink()
        file.mkdir()

    monkeypatch.setattr(cli, "run", run)
    svg = tmp_path / "svg"
    outputs = ["--json", str(file), "--svg", str(svg)]
    assert main(["--only", "close", "--peers", "uvloop", *outputs]) == 1
    said = capsys.readouterr()
    assert "close: close of an idle connection" in said.out
    assert "FAILED: " in said.err
    assert "Is a directory" in said.err


def test_a_bug_does_not_take_along_what_was_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(found: Results, *_: object) -> None:
        measured(found, Scripted(measurement()))
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "run", run)
    assert main(["--only", "close", "--peers", "uvloop", "--rounds", "1"]) == 1
    said = capsys.readouterr()
    assert "1,000 - 1,000" in said.out
    assert "ZeroDivisionError" in said.err
    assert "INTERRUPTED" in said.err


# The far end of this program's connection waits for it; it waits for the test.
STUCK = """
import os, sys, time
with open(sys.argv[1], "w") as pipe:
    print(os.getpid(), file=pipe)
time.sleep(60)
"""


def what_comes_from(pipe: Path) -> str:
    """Whoever was to write may have failed before: to open it must not wait."""
    fd = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert select.select([fd], [], [], 30) != ([], [], [])
    with open(fd, encoding="ascii") as text:
        return text.readline()


@pytest.fixture
def ctrl_c_is_heard() -> Iterator[None]:
    """Where a shell has started us in the background, we ignore it: children, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_heard")
@pytest.mark.parametrize("what", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_the_middle_of_a_run_keeps_what_was_found(
    what: signal.Signals, tmp_path: Path
) -> None:
    pipe, stuck, file = (tmp_path / name for name in ("pipe", "stuck.py", "found.json"))
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
        pid = what_comes_from(pipe).strip()
        assert Path(f"/proc/{pid}").exists()
        run.send_signal(what)
        out, err = run.communicate(timeout=30)
    assert run.returncode == 1
    assert not Path(f"/proc/{pid}").exists()
    assert "ssl.SSLSocket" in out
    assert "INTERRUPTED: not everything was measured" in err
    assert "Traceback" not in err
    found = json.loads(file.read_text("utf-8"))
    (workload,) = found["workloads"]
    assert workload["stacks"]["ssl.SSLSocket"]["figures"]["p50"]["median"] > 0
    assert workload["stacks"]["mine"]["remarks"] == ["not measured"]


def test_without_a_compiler_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BUILD", tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, compiler in {"go": "go", "boost.asio": "g++"}.items():
        with pytest.raises(MissingError, match=f"{compiler.replace('+', '.')} is not"):
            STACKS[name].prepare()


def test_what_a_compiler_complains_about_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BUILD", tmp_path / "build")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    compiler = tmp_path / "g++"
    compiler.write_text(
        "#!/bin/sh\necho 'fatal error: no boost' >&2\nexit 1\n", "utf-8"
    )
    compiler.chmod(0o755)
    with pytest.raises(MissingError, match="fatal error: no boost"):
        STACKS["boost.asio"].prepare()
    compiler.write_text('#!/bin/sh\nexec /usr/bin/touch "$8"\n', "utf-8")
    (program,) = STACKS["boost.asio"].prepare()
    assert Path(program).exists()
    compiler.unlink()
    assert STACKS["boost.asio"].prepare() == (program,)
