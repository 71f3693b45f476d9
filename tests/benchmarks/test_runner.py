"""Rounds, and what becomes of those that were disturbed."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from benchmarks import quiet
from benchmarks.child import ProgramError
from benchmarks.measure import CannotError
from benchmarks.quiet import Disturbance, Watch
from benchmarks.runner import REPEATS
from benchmarks.stacks import MissingError, Stack

from .faking import LOUD, Scripted, measured, measurement, results

ONE = ("trio_tlsdown",)


def test_all_rounds_are_measured() -> None:
    bench = Scripted(measurement())
    found = measured(results("close", names=("trio_tlsdown", "uvloop")), bench)
    assert len(bench.jobs) == 6
    assert len(found.outcomes["close", "uvloop"].rounds) == 3
    assert found.versions == {"trio_tlsdown": "a version", "uvloop": "a version"}


def test_each_round_has_all_stacks_and_another_one_goes_first() -> None:
    bench = Scripted(measurement())
    names = ("trio_tlsdown", "trio.SSLStream", "uvloop")
    measured(results("close", names=names, rounds=3), bench)
    a, b, c = names
    assert bench.commands == [a, b, c, b, c, a, c, a, b]


def test_a_disturbed_measurement_is_repeated_and_told() -> None:
    bench = Scripted(measurement(1, LOUD), measurement(2))
    found = measured(results("close", names=ONE, rounds=1), bench)
    outcome = found.outcomes["close", "trio_tlsdown"]
    assert outcome.repeated == 1
    assert outcome.disturbed == []
    assert [figures["p50"] for figures in outcome.rounds] == [2e6]
    assert outcome.remarks == ["1 disturbed and repeated"]


def test_what_stays_disturbed_counts_and_is_told() -> None:
    bench = Scripted(measurement(1, LOUD))
    found = measured(results("close", names=ONE, rounds=1), bench)
    outcome = found.outcomes["close", "trio_tlsdown"]
    assert len(bench.jobs) == 1 + REPEATS
    assert len(outcome.rounds) == 1
    assert outcome.disturbed == ["others had 50% of a core"]
    assert outcome.remarks[-1] == "1 disturbed: others had 50% of a core"


def test_a_quick_round_is_not_repeated() -> None:
    bench = Scripted(measurement(1, LOUD))
    measured(results("close", names=ONE, rounds=1, quick=True), bench)
    assert len(bench.jobs) == 1


@pytest.mark.parametrize(
    ("error", "remark"),
    [
        (CannotError("no half-close"), "cannot: no half-close"),
        (ProgramError("exit code 1"), "failed: exit code 1"),
    ],
)
def test_what_cannot_or_fails_is_not_tried_again(error: Exception, remark: str) -> None:
    bench = Scripted(error)
    found = measured(results("close", names=ONE), bench)
    assert len(bench.jobs) == 1
    assert found.outcomes["close", "trio_tlsdown"].remarks == [remark]


def test_endings_without_close_notify_are_told() -> None:
    found = measured(results("close", names=ONE), Scripted(measurement(cut=3)))
    remarks = found.outcomes["close", "trio_tlsdown"].remarks
    assert remarks == ["ends without close_notify"]


def test_a_stack_that_is_not_installed_is_left_out_with_the_reason() -> None:
    def prepare() -> list[str]:
        raise MissingError("go is not installed")

    found = results("close", names=ONE)
    found.stacks = [*found.stacks, Stack("go", prepare)]
    measured(found, Scripted(measurement()))
    assert found.left_out == {"go": "go is not installed"}


@pytest.mark.parametrize(
    ("disturbance", "reason"),
    [
        (Disturbance(foreign=0.01, steal=0.0), None),
        (Disturbance(foreign=0.2, steal=0.0), "others had 20% of a core"),
        (Disturbance(foreign=0.0, steal=0.1), "the host stole 10% of a core"),
    ],
)
def test_what_disturbs(disturbance: Disturbance, reason: str | None) -> None:
    assert disturbance.reason == reason


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What it says of its cores; a look at the clock takes a second."""
    stat = tmp_path / "stat"
    seconds = itertools.count()
    monkeypatch.setattr(quiet, "STAT", stat)
    monkeypatch.setattr(quiet, "TICK", 0.01)
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(seconds)))
    stat.write_text("cpu 9 9 9 9 9 9 9 9 9 9\ncpu0 9 9 9 9 9 9 9 9 9 9\n", "ascii")
    with stat.open("a", encoding="ascii") as lines:
        lines.write("cpu1 100 0 200 9 9 9 9 40 0 0\nintr 1 2 3\n")
    return stat


def test_what_others_had_of_a_core_is_a_disturbance(kernel: Path) -> None:
    watch = Watch({1})
    kernel.write_text("cpu0 99 99 99 9 9 9 9 99 9 9\ncpu1 130 10 230 9 9 9 9 51 0 0\n")
    found = watch.end({1: 0.25})
    # 0.70 s of programs, 0.25 of them ours, and the slack.
    assert found.foreign == pytest.approx(0.70 - 0.25 - quiet.SLACK)
    assert found.steal == pytest.approx(0.11 - 0.01)


def test_own_cpu_time_is_no_disturbance(kernel: Path) -> None:
    watch = Watch({1})
    kernel.write_text("cpu1 130 10 230 9 9 9 9 40 0 0\n")
    assert watch.end({1: 0.70}) == Disturbance(foreign=0.0, steal=0.0)


def test_the_real_kernel_says_what_a_core_was_busy_with() -> None:
    core = min(os.sched_getaffinity(0))
    busy, _ = Watch({core})._busy()[core]
    assert busy > 0
