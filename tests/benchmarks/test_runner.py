"""Rounds, and measurements that were disturbed."""

from __future__ import annotations

import resource
import time
from types import SimpleNamespace

import psutil
import pytest

from benchmarks import quiet
from benchmarks.implementations import Implementation
from benchmarks.measure import CannotError, ProgramError
from benchmarks.quiet import Disturbance
from benchmarks.results import Outcome, Results
from benchmarks.runner import REPEATS, run
from harness.build import BuildError, MissingError

from .faking import LOUD, Scripted, installed, measured, measurement

ONE = ("trio_tlsdown",)


def test_all_rounds_are_measured() -> None:
    bench = Scripted(measurement())
    found = measured(bench, "close", names=("trio_tlsdown", "uvloop"))
    assert len(bench.jobs) == 6
    assert len(found.outcomes["close"]["uvloop"].rounds) == 3
    assert found.versions == {"trio_tlsdown": "a version", "uvloop": "a version"}


def test_each_round_has_all_implementations_and_another_one_goes_first() -> None:
    bench = Scripted(measurement())
    names = ("trio_tlsdown", "trio.SSLStream", "uvloop")
    measured(bench, "close", names=names, rounds=3)
    a, b, c = names
    assert bench.commands == [a, b, c, b, c, a, c, a, b]


def test_a_disturbed_measurement_is_repeated_and_noted() -> None:
    bench = Scripted(measurement(1, LOUD), measurement(2))
    found = measured(bench, "close", names=ONE, rounds=1)
    outcome = found.outcomes["close"]["trio_tlsdown"]
    assert outcome.repeated == 1
    assert outcome.disturbed == []
    assert [figures["p50"] for figures in outcome.rounds] == [2e6]
    assert outcome.notes == ["1 disturbed and repeated"]


def test_a_measurement_that_stays_disturbed_counts_and_is_noted() -> None:
    bench = Scripted(measurement(1, LOUD))
    found = measured(bench, "close", names=ONE, rounds=1)
    outcome = found.outcomes["close"]["trio_tlsdown"]
    assert len(bench.jobs) == 1 + REPEATS
    assert len(outcome.rounds) == 1
    assert outcome.disturbed == ["others had 50% of a core"]
    assert outcome.notes[-1] == "1 disturbed: others had 50% of a core"


def test_a_quick_round_is_not_repeated() -> None:
    bench = Scripted(measurement(1, LOUD))
    measured(bench, "close", names=ONE, rounds=1, quick=True)
    assert len(bench.jobs) == 1


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (CannotError("no half-close"), "cannot: no half-close"),
        (ProgramError("exit code 1"), "failed: exit code 1"),
    ],
)
def test_an_implementation_that_cannot_or_fails_is_not_tried_again(
    error: Exception, note: str
) -> None:
    bench = Scripted(error)
    found = measured(bench, "close", names=ONE)
    assert len(bench.jobs) == 1
    assert found.outcomes["close"]["trio_tlsdown"].notes == [note]


def test_endings_without_close_notify_are_noted() -> None:
    found = measured(Scripted(measurement(cut=3)), "close", names=ONE)
    notes = found.outcomes["close"]["trio_tlsdown"].notes
    assert notes == ["ends without close_notify"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MissingError("go is not installed"), "go is not installed"),
        (
            BuildError("g++ failed: In file\nfatal error: no boost"),
            "fatal error: no boost",
        ),
        (BuildError("g++ failed: "), "g++ failed: "),
    ],
)
def test_an_implementation_that_is_not_installed_is_left_out_with_the_reason(
    error: Exception, reason: str
) -> None:
    def prepare() -> list[str]:
        raise error

    results = Results({}, {"close": {"uvloop": Outcome(), "go": Outcome()}}, 1)
    implementations = [*installed("uvloop"), Implementation("go", prepare)]
    run(results, implementations, Scripted(measurement()), lambda _: None)
    assert results.left_out == {"go": reason}
    assert list(results.outcomes["close"]) == ["uvloop"]


@pytest.mark.parametrize(
    ("disturbance", "reason"),
    [
        (Disturbance(foreign=0.01, steal=0.0), None),
        (Disturbance(foreign=0.2, steal=0.0), "others had 20% of a core"),
        (Disturbance(foreign=0.0, steal=0.1), "the host stole 10% of a core"),
    ],
)
def test_the_reason_of_a_disturbance(
    disturbance: Disturbance, reason: str | None
) -> None:
    assert disturbance.reason == reason


class Machine:
    """What the kernel says of its two cores, and of our own CPU time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.busy, self.stolen, self.own, self.now = 3.0, 0.4, 1.0, 10.0
        usage = resource.struct_rusage([0.0] * 16)
        monkeypatch.setattr(psutil, "cpu_times", self._times)
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(time, "process_time", lambda: self.own)
        monkeypatch.setattr(resource, "getrusage", lambda _: usage)
        monkeypatch.setattr(quiet, "TICK", 0.01)

    def _times(self, *, percpu: bool) -> list[SimpleNamespace]:
        assert percpu
        other = SimpleNamespace(user=9.0, nice=9.0, system=9.0, steal=9.0)
        ours = SimpleNamespace(
            user=self.busy - 2, nice=1.0, system=1.0, steal=self.stolen
        )
        return [other, ours]


def test_what_others_had_of_a_core_is_a_disturbance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    watch = quiet.Watch({1})
    machine.busy, machine.stolen, machine.own, machine.now = 3.7, 0.51, 1.25, 11.0
    found = watch.end()
    # 0.70 s of programs, 0.25 s of them ours, and the slack.
    assert found.foreign == pytest.approx(0.70 - 0.25 - quiet.SLACK)
    assert found.steal == pytest.approx(0.11 - 0.01)


def test_own_cpu_time_is_no_disturbance(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    watch = quiet.Watch({1})
    machine.busy, machine.own, machine.now = 3.7, 1.7, 11.0
    assert watch.end() == Disturbance(foreign=0.0, steal=0.0)


def test_the_real_kernel_counts_the_time_of_each_core() -> None:
    busy, stolen = quiet.Watch({0})._count()
    assert busy > 0
    assert stolen >= 0
