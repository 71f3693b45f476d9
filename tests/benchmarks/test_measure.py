"""Programs in processes of their own: the protocol, which any language can speak."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import measure
from benchmarks.implementations import IMPLEMENTATIONS
from benchmarks.measure import (
    Bench,
    CannotError,
    ProgramError,
    go_on,
    last_words,
    next_object,
    read_report,
)
from benchmarks.workloads.job import Job
from harness.process import Program, running

PROGRAM = """
import json, socket, ssl, sys, time
role, kind, host, port, ca, repeat, size, piece = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
print(json.dumps({"version": "mine 1.0"}))
for _ in range(int(repeat)):
    with socket.create_connection((host, int(port))) as raw:
        sock = context.wrap_socket(raw, server_hostname=host)
        sock.sendall(bytes(int(size)))
        sock.recv(1)
        sock.unwrap()
    print(json.dumps({"seconds": 0.25, "cpu": 0.125}))
"""

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def program(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "program.py"
    file.write_text(text, "utf-8")
    return [sys.executable, str(file)]


def test_a_users_program_can_be_measured(bench: Bench, tmp_path: Path) -> None:
    found = bench.measure(program(tmp_path, PROGRAM), Job(kind="shutdown", repeat=3))
    assert [sample.seconds for sample in found.samples] == [0.25, 0.25, 0.25]
    assert found.endings == {"close_notify": 3}
    assert found.version == "mine 1.0"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("print('hello')", "not a JSON object: 'hello"),
        ("print('[1]')", "not a JSON object"),
        ("print('{\"seconds\": 1}')", "not a sample"),
        ('print(\'{"seconds": 1, "cpu": 1}\')', "1 samples, not 2"),
        ("raise OSError('no way')", "exit code 1: OSError: no way"),
    ],
)
def test_a_program_that_breaks_the_protocol_has_failed(
    text: str, complaint: str, bench: Bench, tmp_path: Path
) -> None:
    with pytest.raises(ProgramError, match=complaint):
        bench.measure(program(tmp_path, text), Job(kind="close", repeat=2))


@pytest.mark.parametrize(
    "job", [Job(kind="close", repeat=2), Job(kind="drain", connections=2)]
)
def test_a_program_may_say_that_it_cannot_do_a_workload(
    job: Job, bench: Bench, tmp_path: Path
) -> None:
    says = program(tmp_path, 'print(\'{"cannot": "no time"}\')')
    with pytest.raises(CannotError, match="no time"):
        bench.measure(says, job)


def test_a_server_that_never_listens_has_failed(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="never listened"):
        bench.measure(
            program(tmp_path, "print('{}')"), Job(kind="drain", connections=2)
        )


def test_a_program_that_is_not_installed_has_failed(bench: Bench) -> None:
    with pytest.raises(ProgramError, match="No such file"):
        bench.measure(["/no/such/program"], Job(kind="close", repeat=2))


def test_the_memory_of_a_server_is_measured_from_outside(bench: Bench) -> None:
    found = bench.measure(
        IMPLEMENTATIONS["trio_tlsdown"].prepare(), Job(kind="drain", connections=20)
    )
    assert len(found.samples) == 1
    assert found.memory is not None
    assert 0 <= found.memory < 2**20
    assert found.endings == {"close_notify": 70}


def test_a_program_that_takes_too_long_is_killed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "PATIENCE", 0.2)
    with pytest.raises(ProgramError, match="took too long"):
        bench.measure(SLEEPER, Job(kind="close", repeat=2))


def test_a_server_that_ends_before_it_is_told_to_has_failed(
    bench: Bench, tmp_path: Path
) -> None:
    text = "print('{\"port\": 1}', flush=True); raise OSError('gone')"
    with pytest.raises(ProgramError, match="OSError: gone"):
        bench.measure(program(tmp_path, text), Job(kind="drain", connections=2))


def test_clients_that_fail_are_named(bench: Bench, tmp_path: Path) -> None:
    text = "print('{\"port\": 1}', flush=True); import time; time.sleep(60)"
    with pytest.raises(ProgramError, match=r"the reference peer: .*ConnectionRefused"):
        bench.measure(program(tmp_path, text), Job(kind="drain", connections=2))


async def after(text: str, use: Callable[[Program], Awaitable[Any]]) -> Any:
    """Run a line of Python, and return what *use* makes of it when it has ended."""
    async with running(sys.executable, "-c", text) as child:
        await child.ended.wait()
        return await use(child)


async def test_another_cipher_is_a_failure() -> None:
    text = '{"sessions": [["TLSv1.3", "TLS_AES_128_GCM_SHA256"]], "endings": {}}'
    with pytest.RaisesGroup(
        pytest.RaisesExc(ProgramError, match="TLS_AES_128_GCM_SHA256, not")
    ):
        await after(f"print({text!r})", read_report)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("pass", "the reference peer printed nothing"),
        ("raise OSError('no')", "the reference peer: exit code 1: OSError: no"),
    ],
)
async def test_a_reference_peer_that_fails_is_named(text: str, complaint: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ProgramError, match=complaint)):
        await after(text, read_report)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("print('{}')", "it ended too early"), ("raise OSError('no')", "OSError: no")],
)
async def test_a_program_that_has_ended_cannot_go_on(text: str, complaint: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ProgramError, match=complaint)):
        await after(text, go_on)


async def test_a_program_that_failed_without_an_error_is_named() -> None:
    expected = pytest.RaisesExc(
        ProgramError, match=r"exit code 3: no error from .*exit\(3\)"
    )
    with pytest.RaisesGroup(expected):
        await after("exit(3)", next_object)


def test_the_error_is_found_in_a_traceback() -> None:
    group = "  + Exception Group Traceback\n    | OSError: no\n    +-----------"
    assert last_words(group) == "OSError: no"
    assert last_words("panic: no\n\n") == "panic: no"
    assert last_words("") == ""


@pytest.mark.parametrize("one_core", [True, False])
async def test_each_end_runs_on_its_core(bench: Bench, one_core: bool) -> None:
    allowed = os.sched_getaffinity(0)
    job = Job(kind="close", repeat=1, one_core=one_core)
    show = "import os; print(sorted(os.sched_getaffinity(0)))"
    measured, reference = bench.measured_core, bench._core_of_reference(job)
    assert {measured, reference} <= allowed
    assert (measured == reference) == (one_core or len(allowed) == 1)
    for core in (measured, reference):
        command = measure._pinned(core, [sys.executable, "-c", show])
        async with running(*command) as child:
            assert await child.prints_line() == f"[{core}]"
