"""The implementations that have to be compiled do all that is asked of them."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from benchmarks import implementations
from benchmarks.catalogue import WORKLOADS
from benchmarks.implementations import IMPLEMENTATIONS
from benchmarks.measure import Bench, CannotError
from benchmarks.workloads.job import Job
from tests.interop.programs import skip_if_missing

SMALL = {
    "receive": Job(kind="receive", repeat=2, size=2**20),
    "send": Job(kind="send", repeat=2, size=2**18, piece=2**12),
    "echo": Job(kind="echo", repeat=4, size=64, connections=5),
    "accept": Job(kind="accept", connections=5),
    "burst": Job(kind="burst", connections=5),
    "drain": Job(kind="drain", connections=5),
}


@pytest.mark.long
@pytest.mark.parametrize("name", ["go", "boost.asio"])
def test_each_workload_can_be_measured(
    name: str,
    bench: Bench,
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The lab is in the same program.
    monkeypatch.setattr(implementations, "BUILD", pytestconfig.cache.mkdir("labs"))
    with skip_if_missing():
        command = IMPLEMENTATIONS[name].prepare()
    for kind in dict.fromkeys(each.job.kind for each in WORKLOADS.values()):
        job = SMALL.get(kind, Job(kind=kind, repeat=2))
        cannot = name == "boost.asio" and kind == "half-close"
        with pytest.raises(CannotError) if cannot else nullcontext():
            found = bench.measure(command, job)
            assert len(found.samples) >= (1 if job.connections else job.repeat)
            assert "cut" not in found.endings
