"""The command ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from . import machine, publish
from .catalogue import WORKLOADS
from .implementations import IMPLEMENTATIONS, Implementation, program_of
from .measure import Bench
from .report import show
from .results import Outcome, Results, load, save
from .runner import run
from .targets import compared

T = TypeVar("T")


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="How fast TLS connections open, talk and end: trio_tlsdown beside "
        "other implementations.",
        epilog="See docs/benchmarks.md. The exit code is 1 if a target is missed, or a "
        "program failed.",
    )
    add = command.add_argument
    add("--only", metavar="WORKLOAD[,..]", help="default: all")
    add("--peers", metavar="IMPLEMENTATION[,..]", help="default: all")
    add("--rounds", type=int, default=7, help="default: 7")
    add("--quick", action="store_true", help="a short round, compared with no target")
    add("--program", metavar="NAME=COMMAND", action="append", default=[],
        help="a client or server of your own; may be repeated")  # fmt: skip
    add("--json", metavar="FILE", type=Path, help="write all results")
    add("--report", metavar="FILE", type=Path,
        help="measure nothing, show what --json wrote")  # fmt: skip
    add("--page", metavar="FILE", type=Path, help="put the figures into this Markdown "
        "page, and JSON and a picture beside it")  # fmt: skip
    add("--list", action="store_true", help="the workloads and implementations")
    return command


def choose(text: str | None, known: Mapping[str, T], what: str) -> list[T]:
    """The things of these names.

    Raises:
      ValueError: One is not known.
    """
    if text is None:
        return list(known.values())
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ValueError(f"no {what} {name!r}; there are: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def prepare(options: argparse.Namespace) -> tuple[Results, list[Implementation]]:
    if options.rounds < 1:
        raise ValueError("--rounds must be at least 1")
    implementations = choose(options.peers, IMPLEMENTATIONS, "implementation")
    for text in options.program:
        program = program_of(text)
        if program.name in {*IMPLEMENTATIONS, *(each.name for each in implementations)}:
            raise ValueError(f"--program: {program.name} is the name of another one")
        implementations.append(program)
    outcomes = {
        workload.name: {
            each.name: Outcome()
            for each in implementations
            if each.only in {None, workload.job.kind}
        }
        for workload in choose(options.only, WORKLOADS, "workload")
    }
    rounds = 1 if options.quick else options.rounds
    results = Results(machine.describe(), outcomes, rounds, quick=options.quick)
    return results, implementations


def check_outputs(options: argparse.Namespace) -> None:
    """Raises ValueError for what cannot be written, before anything is measured."""
    try:
        if options.json:
            options.json.open("a").close()
        if options.page:
            if options.quick:
                raise ValueError("--page is for a whole run, not a --quick one")
            options.page.open("r+").close()
            publish.check(options.page)
    except OSError as exc:
        raise ValueError(f"{exc.filename} cannot be written: {exc.strerror}") from exc


def emit(line: str) -> None:
    """To standard error, so that the tables can be piped."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    elif "disturbed" in line:
        print(line, file=sys.stderr, flush=True)


def measure(results: Results, implementations: Sequence[Implementation]) -> None:
    began = time.monotonic()
    # As Ctrl-C, which Trio handles: programs end, and results are kept.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        with tempfile.TemporaryDirectory() as folder:
            run(results, implementations, Bench(Path(folder)), emit)
    except KeyboardInterrupt:
        results.interrupted = True
    except Exception:  # noqa: BLE001 - earlier results must not be lost
        traceback.print_exc()
        results.interrupted = True
    emit(f"{time.monotonic() - began:.0f} s\n")


def put_out(results: Results, options: argparse.Namespace) -> bool:
    """Show and write the results. If one output fails the others are still made."""
    outputs: list[Callable[[], object]] = [lambda: show(results)]
    if options.json:
        outputs.append(lambda: save(results, options.json))
    if options.page and not results.interrupted:
        outputs.append(lambda: publish.write(options.page, results))
    complete = True
    for output in outputs:
        try:
            output()
        except OSError as exc:
            print(f"FAILED: {exc}", file=sys.stderr)
            complete = False
    return complete


def verdict(results: Results) -> int:
    """The exit code; if it is not 0, print why."""
    reasons = [
        f"FAILED: {name} failed at {workload}: {outcome.failed}"
        for workload, outcomes in results.outcomes.items()
        for name, outcome in outcomes.items()
        if outcome.failed
    ]
    reasons += [
        f"TARGET MISSED: {target}, measured {value:.3f}"
        for target, value in compared(results)
        if not target.met(value)
    ]
    if results.interrupted:
        reasons.append("INTERRUPTED: not everything was measured")
    for reason in reasons:
        print(reason, file=sys.stderr)
    return int(bool(reasons))


def main(arguments: Sequence[str] | None = None) -> int:
    command = parser()
    options = command.parse_args(arguments)
    if options.list:
        for workload in WORKLOADS.values():
            print(f"{workload.name:16} {workload.title}")
        print("Implementations:", ", ".join(IMPLEMENTATIONS))
        return 0
    try:
        check_outputs(options)
        if options.report:
            results = load(options.report)
        else:
            results, implementations = prepare(options)
            measure(results, implementations)
    except ValueError as exc:
        command.exit(2, f"{command.prog}: {exc}\n")
    complete = put_out(results, options)
    return verdict(results) or int(not complete)
