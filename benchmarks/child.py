"""A program that runs on one core, and is never left running."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self


class ProgramError(Exception):
    """A program did not do what the protocol asks for."""


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started here runs on that core; programs inherit it with all threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def last_words(said: str) -> str:
    """The line of a traceback that says what it was, also in an exception group."""
    lines = [line.strip("| +-") for line in said.splitlines()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Resource)\b", line)]
    return next(iter(errors[-1:] or [line for line in lines if line][-1:]), "")


class Child:
    """A program that prints a JSON object a line.

    Args:
      command: The program and its arguments.
      core: Where it runs.
      patience: Seconds until it is killed.
      descriptors: What it inherits.
      environment: Added to ours.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int,
        patience: float,
        descriptors: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._command = command
        try:
            with on_core(core):
                self._process = subprocess.Popen(  # noqa: S603 - the user's own
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._stderr,
                    pass_fds=descriptors,
                    env={**os.environ, **(environment or {})},
                )
        except OSError as exc:
            self._stderr.close()
            raise ProgramError(f"{command[0]}: {exc.strerror}") from exc
        self._timer = threading.Timer(patience, self._time_out)
        self._timer.daemon = True
        self._timer.start()
        self._timed_out = False
        self.usage: resource.struct_rusage | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    def words(self) -> Iterator[dict[str, Any]]:
        """The objects that it prints, until it ends.

        Raises:
          ProgramError: what it printed is no JSON object, or it failed.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                words = json.loads(line)
            except ValueError:
                words = None
            if not isinstance(words, dict):
                raise ProgramError(f"this is no JSON object: {line[:80]!r}")
            yield words
        self._end()

    def next(self, key: str) -> Any:
        """The value of *key* in the next object that it prints."""
        for words in self.words():
            if key in words:
                return words[key]
            raise ProgramError(f"{key!r} was expected, not {json.dumps(words)[:80]}")
        raise ProgramError(f"{key!r} was expected, and the program has ended")

    def tell(self) -> None:
        """An empty line: go on."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except OSError as exc:
            self._end()
            raise ProgramError("the program has ended too early") from exc

    def _time_out(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        # Popen.kill() may wait for it, and then nobody learns what it has used.
        if self.usage is None:
            os.kill(self._process.pid, signal.SIGKILL)

    def _wait(self) -> int:
        if self.usage is None:
            _, status, self.usage = os.wait4(self._process.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(status)
        return self._process.returncode

    def _end(self) -> None:
        code = self._wait()
        if self._timed_out:
            raise ProgramError("it took too long, and was killed")
        if code:
            self._stderr.seek(0)
            said = last_words(self._stderr.read().decode(errors="replace"))
            what = said or f"without a word, of {shlex.join(self._command)}"
            raise ProgramError(f"exit code {code}: {what}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._kill()
        self._wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            assert stream is not None
            with suppress(OSError):  # of a line that it did not want
                stream.close()
