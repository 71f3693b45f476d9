"""Programs in processes of their own: the protocol, as any language can speak it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.child import Child, ProgramError, last_words
from benchmarks.measure import Bench, CannotError, _check
from benchmarks.stacks import STACKS
from benchmarks.workloads.job import Job

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
    found = bench.measure(program(tmp_path, PROGRAM), Job("shutdown", 3))
    assert [lap.seconds for lap in found.laps] == [0.25, 0.25, 0.25]
    assert found.endings == {"close_notify": 3}
    assert found.session == (
        "TLSv1.3 TLS_AES_256_GCM_SHA384 with a certificate of ECDSA, secp256r1"
    )
    assert found.version == "mine 1.0"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("print('hello')", "no JSON object: b'hello"),
        ("print('[1]')", "no JSON object"),
        ("print('{\"seconds\": 1}')", "no lap"),
        ('print(\'{"seconds": 1, "cpu": 1}\')', "1 laps came, not 2"),
        ("raise OSError('no way')", "exit code 1: OSError: no way"),
    ],
)
def test_a_program_that_breaks_the_protocol_is_told(
    text: str, complaint: str, bench: Bench, tmp_path: Path
) -> None:
    with pytest.raises(ProgramError, match=complaint):
        bench.measure(program(tmp_path, text), Job("close", 2))


@pytest.mark.parametrize("kind", ["close", "hold"])
def test_a_program_may_say_that_it_cannot(
    kind: str, bench: Bench, tmp_path: Path
) -> None:
    says = program(tmp_path, 'print(\'{"cannot": "no time"}\')')
    with pytest.raises(CannotError, match="no time"):
        bench.measure(says, Job(kind, 2))


def test_a_server_that_never_listens_is_told(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="never listened"):
        bench.measure(program(tmp_path, "print('{}')"), Job("hold", 2))


def test_a_program_that_is_not_there_is_told(bench: Bench) -> None:
    with pytest.raises(ProgramError, match="No such file"):
        bench.measure(["/no/such/program"], Job("close", 2))


def test_a_server_is_measured_from_outside(bench: Bench) -> None:
    found = bench.measure(STACKS["trio_tlsdown"].prepare(), Job("hold", 20))
    assert len(found.laps) == 1
    assert found.memory is not None
    assert 0 <= found.memory < 2**20
    assert found.endings == {"close_notify": 70}


def test_a_program_that_takes_too_long_is_killed() -> None:
    with Child(SLEEPER, core=0, patience=0.2) as child:
        with pytest.raises(ProgramError, match="took too long"):
            list(child.words())


def test_a_program_is_not_left_running() -> None:
    with Child(SLEEPER, core=0, patience=60) as child:
        pass
    assert not Path(f"/proc/{child.pid}").exists()


def test_another_cipher_is_a_failure() -> None:
    text = '{"sessions": [["TLSv1.3", "TLS_AES_128_GCM_SHA256"]], "endings": {}}'
    says = [sys.executable, "-c", f"print({text!r})"]
    with Child(says, core=0, patience=10) as far:
        with pytest.raises(ProgramError, match="TLS_AES_128_GCM_SHA256, not"):
            _check(far)


def test_words_that_were_not_expected_are_told() -> None:
    says = [sys.executable, "-c", "print('{\"a\": 1}')"]
    with Child(says, core=0, patience=10) as child:
        with pytest.raises(ProgramError, match=r"'b' was expected, not {\"a\": 1}"):
            child.next("b")
        with pytest.raises(ProgramError, match="has ended"):
            child.next("b")


def test_the_reason_is_found_in_a_traceback() -> None:
    group = "  + Exception Group Traceback\n    | OSError: no\n    +-----------"
    assert last_words(group) == "OSError: no"
    assert last_words("panic: no\n\n") == "panic: no"
    assert last_words("") == ""


def test_without_a_word_it_is_told_what_failed() -> None:
    says = [sys.executable, "-c", "exit(3)"]
    with Child(says, core=0, patience=10) as child:
        with pytest.raises(
            ProgramError, match=r"exit code 3: without a word, of .*'exit"
        ):
            child.next("b")


@pytest.mark.parametrize("one_core", [True, False])
def test_each_end_has_its_core(bench: Bench, one_core: bool) -> None:
    job = Job("close", 1, one_core=one_core)
    with bench._program(SLEEPER) as program, bench._far_end(SLEEPER, job) as far:
        assert os.sched_getaffinity(program.pid) == {bench.measured_core}
        own = bench.measured_core if one_core else bench.far_core
        assert os.sched_getaffinity(far.pid) == {own}
    allowed = os.sched_getaffinity(0)
    assert {bench.measured_core, bench.far_core} <= allowed
    assert bench.measured_core != bench.far_core or len(allowed) == 1
