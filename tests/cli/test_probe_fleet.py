"""docs/examples/probe_fleet.py: many hosts, by Dask and as a job array."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.programs import require, require_module
from tests.support import needs_posix

from .probing import HOST, in_thread, lines_of_json, run, web_server, write_ca

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "probe_fleet.py"


@pytest.mark.long
def test_two_workers_probe_all_hosts_and_the_lines_can_be_summed_up(
    tmp_path: Path,
) -> None:
    require_module("distributed")
    ca = write_ca(tmp_path)
    hosts, results = tmp_path / "hosts.txt", tmp_path / "results.jsonl"
    with in_thread(web_server()) as port:
        wanted = [("localhost", port), (HOST, port), (HOST, 1)]
        hosts.write_text("".join(f"{host}:{number}\n" for host, number in wanted))
        with results.open("w") as file:
            done = subprocess.run(  # noqa: S603
                [
                    *(sys.executable, str(EXAMPLE), str(hosts), "--chunk", "2"),
                    *("--ca-file", str(ca), "--timeout", "1"),
                ],
                stdout=file,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=120,
            )
    assert done.returncode == 0, done.stderr
    found = lines_of_json(results.read_text())
    assert sorted((each["host"], each["port"]) for each in found) == sorted(wanted)
    summed = run("probe", "merge", results)
    assert summed.stdout.startswith("3 hosts: 2 pass, 1 unreachable\n")
    assert summed.exit_code == 3


@needs_posix("GNU sed")
def test_the_jobs_of_an_array_share_the_hosts_among_them(tmp_path: Path) -> None:
    require("sed")
    found = re.search(r"^ +(sed .*hosts\.txt) \|$", EXAMPLE.read_text(), re.MULTILINE)
    assert found is not None
    hosts = [f"host{number}.example" for number in range(10)]
    (tmp_path / "hosts.txt").write_text("\n".join(hosts) + "\n")
    shares = [
        subprocess.run(  # noqa: S602 - it is a line for the shell
            found[1],
            shell=True,
            cwd=tmp_path,
            env={
                **os.environ,
                "SLURM_ARRAY_TASK_ID": str(number),
                "SLURM_ARRAY_TASK_COUNT": "3",
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.split()
        for number in (1, 2, 3)
    ]
    assert sorted(host for share in shares for host in share) == sorted(hosts)
    assert all(shares)
