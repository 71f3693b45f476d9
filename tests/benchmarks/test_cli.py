"""The command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import cli, compiled
from benchmarks.as_json import as_json
from benchmarks.catalogue import WORKLOADS
from benchmarks.cli import main
from benchmarks.stacks import STACKS, MissingError, of_program

from .faking import Scripted, measured, measurement, results


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "receives"], "no workload 'receives'; there are: shutdown, close"),
        (["--peers", "trio"], "no peer 'trio'; there are: trio_tlsdown"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--program", "mine"], "NAME=COMMAND, not 'mine'"),
        (["--report", "/no/such/file"], "no file that --json has written"),
    ],
)
def test_a_mistake_is_told(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert complaint in capsys.readouterr().err


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
        ["--peers", "uvloop", "--program", "mine='a b' c"]
    )
    run = cli.prepare(options)
    assert [stack.name for stack in run.stacks] == ["uvloop", "mine"]
    assert run.stacks[-1].prepare() == ["a b", "c"]
    assert run.rounds == 7
    assert of_program("a=b=c").prepare() == ["b=c"]


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
        said == "TARGET MISSED: receive: rate >= 1.7 x trio.SSLStream, measured 1.00\n"
    )


def test_a_quick_run_only_informs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    svg = tmp_path / "svg"
    assert report(tmp_path, "--markdown", "--svg", str(svg), quick=True) == 0
    assert capsys.readouterr().out.startswith("### receive")
    assert (svg / "receive.svg").exists()


def test_a_program_that_failed_is_an_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--quick", "--only", "close", "--peers", "ssl.SSLSocket"]
    assert main([*arguments, "--program", "mine=false"]) == 1
    assert "FAILED: mine failed at close: exit code 1" in capsys.readouterr().err


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
    with pytest.raises(ValueError, match="of format 0, not 1"):
        cli.load(file)


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
