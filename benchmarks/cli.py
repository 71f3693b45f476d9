"""The command ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from . import machine, page
from .as_json import FORMAT, as_json
from .catalogue import WORKLOADS
from .markdown import markdown
from .measure import Bench
from .results import Results
from .runner import run
from .stacks import STACKS, of_program
from .table import console, show

T = TypeVar("T")

EXPLANATION = "See docs/benchmarks.md. The exit code is 1 if a target is missed, or a program failed."


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="How fast TLS connections open, talk and end: trio_tlsdown "
        "beside other stacks.",
        epilog=EXPLANATION,
    )
    add = found.add_argument
    add("--only", metavar="WORKLOAD[,..]", help="these workloads; default: all")
    add("--peers", metavar="PEER[,..]", help="these stacks; default: all")
    add("--rounds", type=int, default=7, help="default: 7")
    add("--quick", action="store_true", help="a small round in less than a minute; "
        "its figures only inform, and are held against no target")  # fmt: skip
    add("--program", metavar="NAME=COMMAND", action="append", default=[],
        help="a client or server of your own; may be given again")  # fmt: skip
    add("--json", metavar="FILE", type=Path, help="write all that was found")
    add("--svg", metavar="FOLDER", type=Path, help="draw it")
    add("--page", metavar="FILE", type=Path, help="write the tables into this Markdown "
        "page, between its two markers, and the overview beside it")  # fmt: skip
    add("--report", metavar="FILE", type=Path,
        help="measure nothing, show what --json wrote before")  # fmt: skip
    add("--markdown", action="store_true", help="tables for a document, to stdout")
    add("--list", action="store_true", help="the workloads and stacks, and no more")
    return found


def choose(text: str | None, known: Mapping[str, T], what: str) -> list[T]:
    """The things of these names.

    Raises:
      ValueError: one is not known.
    """
    if text is None:
        return list(known.values())
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ValueError(f"no {what} {name!r}; there are: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def prepare(options: argparse.Namespace) -> Results:
    if options.rounds < 1:
        raise ValueError("--rounds must be at least 1")
    stacks = dict(STACKS)
    for text in options.program:
        program = of_program(text)
        if program.name in stacks:
            raise ValueError(f"--program: there is a {program.name} already")
        stacks[program.name] = program
    chosen = choose(options.peers, stacks, "peer")
    programs = [stack for name, stack in stacks.items() if name not in STACKS]
    return Results(
        workloads=choose(options.only, WORKLOADS, "workload"),
        stacks=list({stack.name: stack for stack in [*chosen, *programs]}.values()),
        quick=options.quick,
        rounds=1 if options.quick else options.rounds,
    )


def make_room(options: argparse.Namespace) -> None:
    """What cannot be written shall be known before it is measured."""
    try:
        if options.json:
            options.json.open("a").close()
        if options.svg:
            options.svg.mkdir(parents=True, exist_ok=True)
        if options.page:
            options.page.open("r+").close()
            page.check(options.page)
    except OSError as exc:
        raise ValueError(f"{exc.filename} cannot be written: {exc.strerror}") from exc


def listing() -> str:
    workloads = (
        f"  {each.name:12} {each.title.format(repeat=each.job.repeat)}"
        for each in WORKLOADS.values()
    )
    return "\n".join(["Workloads:", *workloads, "Peers:", f"  {', '.join(STACKS)}"])


def tell(line: str) -> None:
    """To standard error, so that the tables can be piped."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    elif "disturbed" in line:
        print(line, file=sys.stderr, flush=True)


def measure(results: Results) -> dict[str, Any]:
    began = time.monotonic()
    where = machine.describe()
    # So that it ends the programs that it has started, and tells what it found.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory() as folder:
            run(results, Bench(Path(folder)), tell)
    except KeyboardInterrupt:
        results.interrupted = True
    except Exception:  # noqa: BLE001 - what was found until then shall not be lost
        traceback.print_exc()
        results.interrupted = True
    tell(f"{time.monotonic() - began:.0f} s\n")
    return as_json(results, where)


def load(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
        written = found["format"]
        if written == FORMAT:
            markdown(found)  # what cannot be shown is none
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as exc:
        raise ValueError(f"{file} is no file that --json has written") from exc
    if written != FORMAT:
        raise ValueError(f"{file} is of format {written}, not {FORMAT}")
    return found


def put_out(found: Mapping[str, Any], options: argparse.Namespace) -> bool:
    """To all who shall have it. What goes wrong at one of them does not concern the rest."""
    outputs: list[Callable[[], object]] = []
    if options.json:
        text = json.dumps(found, indent=1) + "\n"
        outputs.append(lambda: options.json.write_text(text, "utf-8"))
    if options.markdown:
        outputs.append(lambda: print(markdown(found)))
    else:
        outputs.append(lambda: show(found, console()))
    if options.page:
        outputs.append(lambda: page.write(options.page, found))
    if options.svg:
        from .plots import draw  # slow to import

        outputs.append(lambda: draw(found, options.svg))
    complete = True
    for output in outputs:
        try:
            output()
        except OSError as exc:
            print(f"FAILED: {exc}", file=sys.stderr)
            complete = False
    return complete


def verdict(found: Mapping[str, Any]) -> int:
    """The exit code, and why it is not 0."""
    failed = [
        f"{stack} failed at {workload['name']}: {outcome['failed']}"
        for workload in found["workloads"]
        for stack, outcome in workload["stacks"].items()
        if outcome["failed"]
    ]
    missed = [
        f"{each['target']}, measured {each['value']:.3f}"
        for each in found["targets"]
        if not each["met"]
    ]
    for line in failed:
        print(f"FAILED: {line}", file=sys.stderr)
    for line in missed:
        print(f"TARGET MISSED: {line}", file=sys.stderr)
    if found["interrupted"]:
        print("INTERRUPTED: not everything was measured", file=sys.stderr)
    return 1 if failed or missed or found["interrupted"] else 0


def main(arguments: Sequence[str] | None = None) -> int:
    command = parser()
    options = command.parse_args(arguments)
    if options.list:
        print(listing())
        return 0
    try:
        if options.report:
            found = load(options.report)
            make_room(options)
        else:
            results = prepare(options)
            make_room(options)
            found = measure(results)
    except ValueError as exc:
        command.exit(2, f"{command.prog}: {exc}\n")
    complete = put_out(found, options)
    return verdict(found) or int(not complete)
