"""Probe many hosts from many machines, with Dask, and print a line of JSON for each.

    python probe_fleet.py hosts.txt --protocol smtp >results.jsonl
    python probe_fleet.py hosts.txt --scheduler tcp://scheduler:8786 >results.jsonl
    trio-tlsdown probe merge results.jsonl

Other options are passed on to trio-tlsdown probe. Without --scheduler, it starts two
workers on this machine. Each chunk of hosts runs in a process of its own on its worker;
only the resulting lines are shared.

Without Dask, as a job array (Slurm; --array=1-8 for eight machines):

    sed -n "$SLURM_ARRAY_TASK_ID~$SLURM_ARRAY_TASK_COUNT p" hosts.txt |
        trio-tlsdown probe --json --file - >results.$SLURM_ARRAY_TASK_ID.jsonl

and when all jobs are done:

    trio-tlsdown probe merge results.*.jsonl
"""

import argparse
import subprocess
import sys
from pathlib import Path

from distributed import Client, as_completed

CHUNK = 500  # hosts
FINE = {0, 1, 3}  # all passed, something failed, a host could not be reached


def probe(hosts: list[str], options: list[str]) -> str:
    """Probe some hosts, on a worker."""
    done = subprocess.run(  # noqa: S603
        [
            sys.executable,
            "-m",
            "trio_tlsdown",
            "probe",
            "--json",
            "--file",
            "-",
            *options,
        ],
        input="\n".join(hosts),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in FINE:
        raise RuntimeError(done.stderr)
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="Probe many hosts, by Dask.")
    parser.add_argument("file", type=Path, help="hosts, one a line")
    parser.add_argument("--scheduler", help="default: two workers on this machine")
    parser.add_argument("--chunk", type=int, default=CHUNK, help="hosts for a process")
    args, options = parser.parse_known_args()
    hosts = args.file.read_text("utf-8").split("\n")
    chunks = [hosts[at : at + args.chunk] for at in range(0, len(hosts), args.chunk)]
    local = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with Client(args.scheduler) if args.scheduler else Client(**local) as client:
        futures = [
            client.submit(probe, chunk, options) for chunk in chunks if any(chunk)
        ]
        for future in as_completed(futures):
            sys.stdout.write(future.result())
            sys.stdout.flush()


if __name__ == "__main__":
    main()
