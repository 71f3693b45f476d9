"""The stacks that are not in Python: they can be built, and do all that is asked."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks import compiled
from benchmarks.catalogue import WORKLOADS
from benchmarks.measure import Bench, CannotError
from benchmarks.stacks import STACKS
from benchmarks.workloads.job import Job
from tests.interop.programs import require

NEEDS = {
    "go": {"go": os.X_OK},
    "boost.asio": {
        "g++": os.X_OK,
        "/usr/include/boost/asio/ssl.hpp": os.F_OK,
        "/usr/include/openssl/ssl.h": os.F_OK,
    },
}
SMALL = {
    "receive": Job("receive", 2, 2**20),
    "send": Job("send", 2, 2**18, 2**12),
    "hold": Job("hold", 5),
}


@pytest.mark.long
@pytest.mark.parametrize("stack", NEEDS)
def test_each_workload_can_be_measured(
    stack: str, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for what, mode in NEEDS[stack].items():
        require(what, mode)
    monkeypatch.setattr(compiled, "BUILD", tmp_path)  # whatever was built before
    command = STACKS[stack].prepare()
    for kind in dict.fromkeys(each.job.kind for each in WORKLOADS.values()):
        job = SMALL.get(kind, Job(kind, 2))
        cannot = stack == "boost.asio" and kind == "half-close"
        with pytest.raises(CannotError) if cannot else nullcontext():
            found = bench.measure(command, job)
            assert len(found.laps) == (1 if kind == "hold" else job.repeat)
            assert "cut" not in found.endings
