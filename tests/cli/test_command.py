"""The command as such: how it starts, and what it says without its extra."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TextIO

import pytest
from click.testing import CliRunner

import trio_tlsdown
from tests.support import needs_linux, needs_posix
from trio_tlsdown.cli import main
from trio_tlsdown.cli._app import app

INSTALL = "pip install 'trio-tlsdown[cli]'"
BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
sys.argv[0] = "trio-tlsdown"
from trio_tlsdown.cli import main
main()
"""


def python(
    *arguments: str, stdout: int | TextIO = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  (our own interpreter, our own arguments)
        [sys.executable, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_the_module_runs_the_command() -> None:
    result = python("-m", "trio_tlsdown", "demo", "--scenario", "3")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "Scenario 3, TLS 1.3" in result.stdout
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@needs_linux("/dev/full")
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["demo"], marks=pytest.mark.long),
        ["demo", "--json"],
        pytest.param(["--help"], marks=pytest.mark.long),
    ],
)
def test_a_full_disk_is_no_traceback(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        result = python("-m", "trio_tlsdown", *arguments, stdout=full)
    assert result.returncode == 3
    assert result.stderr == (
        "trio-tlsdown: cannot write to standard output: No space left on device\n"
    )


@needs_posix("exec()")
def test_a_closed_output_is_told() -> None:
    code = "import os; os.close(1); os.execvp(sys.executable, [sys.executable, *ARGS])"
    arguments = ["-m", "trio_tlsdown", "demo"]
    result = python("-c", f"import sys; ARGS = {arguments}; {code}")
    assert result.returncode == 3
    assert (
        result.stderr == "trio-tlsdown: cannot write to standard output: it is closed\n"
    )


def test_ctrl_c_while_it_loads_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            assert name == "trio_tlsdown.cli._app"
            raise KeyboardInterrupt

    forget_the_app(monkeypatch)
    monkeypatch.setattr("sys.meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit, match="Aborted!"):
        main()


@pytest.mark.parametrize(
    "option", ["--tls=1.3", pytest.param("--json", marks=pytest.mark.long)]
)
def test_a_reader_that_has_gone_is_no_traceback(option: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing) as closed:
        result = python("-m", "trio_tlsdown", "demo", option, stdout=closed)
    assert result.returncode == 1
    assert result.stderr == ""


def test_the_module_and_the_command_are_the_same() -> None:
    result = python("-m", "trio_tlsdown", "--version")
    assert result.returncode == 0
    assert result.stdout.startswith(f"trio-tlsdown {trio_tlsdown.__version__} (Trio ")


def test_help_names_the_subcommands() -> None:
    for flag in ("-h", "--help"):
        result = CliRunner().invoke(app, [flag])
        assert result.exit_code == 0
        assert "demo" in result.stdout


@pytest.mark.parametrize("name", ["click", "rich", "trustme"])
def test_without_its_extra_the_command_says_how_to_install_it(name: str) -> None:
    result = python("-c", BLOCKED.format(name=name), "demo")
    assert result.returncode == 1
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert name in line
    assert INSTALL in line


def forget_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("trio_tlsdown.cli._")]:
        monkeypatch.delitem(sys.modules, name)


def test_the_message_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_the_app(monkeypatch)
    monkeypatch.setitem(sys.modules, "click", None)
    with pytest.raises(SystemExit, match=r"needs click, .*pip install") as exit_:
        main()
    assert INSTALL in str(exit_.value.code)


def test_ctrl_c_in_a_nursery_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise BaseExceptionGroup("a nursery", [KeyboardInterrupt()])

    monkeypatch.setattr("trio_tlsdown.cli._app.app", interrupted)
    with pytest.raises(SystemExit, match="Aborted!"):
        main()


def test_any_other_error_in_a_nursery_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ExceptionGroup("a nursery", [ZeroDivisionError()])

    monkeypatch.setattr("trio_tlsdown.cli._app.app", broken)
    with pytest.RaisesGroup(ZeroDivisionError):
        main()


def test_a_module_that_is_missing_otherwise_is_no_question_of_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forget_the_app(monkeypatch)
    monkeypatch.setitem(sys.modules, "trio_tlsdown.cli._app", None)
    with pytest.raises(ModuleNotFoundError, match="_app"):
        main()
