"""One measurement: a program and its reference peer, each in a fresh process."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio
import trustme

from harness.process import Program, running

from .quiet import Disturbance, Watch
from .sample import Sample
from .workloads.crowd import WARM_UP
from .workloads.job import Job

HOST: Final = "127.0.0.1"
SESSION: Final = ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
REFERENCE: Final = (sys.executable, "-m", f"{__package__}.reference")
PATIENCE: Final = 120.0  # seconds for one measurement

# The reference peer's OpenSSL offers one cipher only, so that it is the same for all.
OPENSSL_CONFIG: Final = f"""\
openssl_conf = all
[all]
ssl_conf = modules
[modules]
system_default = tls
[tls]
Ciphersuites = {SESSION[1]}
"""


class ProgramError(Exception):
    """A program failed, or did not keep to the protocol."""


class CannotError(Exception):
    """An implementation has no way to do a workload, and says why."""


@dataclass(frozen=True)
class Measurement:
    samples: Sequence[Sample]
    disturbance: Disturbance
    endings: Mapping[str, int]
    """How the reference peer saw connections end: with close_notify, cut, aborted."""
    memory: float | None = None
    """Bytes that the server grew by, for each connection."""
    version: str = ""


@dataclass
class Bench:
    """What all measurements share: certificates, and the cores of both ends."""

    folder: Path
    measured_core: int = field(init=False)
    reference_core: int = field(init=False)

    def __post_init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.reference_core, self.measured_core = cores[0], cores[-1]
        ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        ca.cert_pem.write_to_path(str(self.ca_file))
        issued = ca.issue_cert(HOST, key_type=trustme.KeyType.ECDSA)
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.certificate))
        self.openssl_config.write_text(OPENSSL_CONFIG, "ascii")

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "server.pem"

    @property
    def openssl_config(self) -> Path:
        return self.folder / "openssl.cnf"

    def measure(self, command: Sequence[str], job: Job) -> Measurement:
        """Run *command* and its reference peer.

        Raises:
          CannotError: It says that it cannot do that.
          ProgramError: It failed, or did not keep to the protocol.
        """
        try:
            return trio.run(self._measure, command, job)
        except (BaseExceptionGroup, trio.TooSlowError) as exc:
            error: BaseException = exc
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            if isinstance(error, trio.TooSlowError):
                raise ProgramError("it took too long, and was killed") from None
            raise error from None

    async def _measure(self, command: Sequence[str], job: Job) -> Measurement:
        watch = Watch({self.measured_core, self._core_of_reference(job)})
        run = self._server if job.connections else self._client
        results = await run(command, job)
        return Measurement(disturbance=watch.end(), **results)

    def _core_of_reference(self, job: Job) -> int:
        return self.measured_core if job.one_core else self.reference_core

    @asynccontextmanager
    async def _reference(
        self, job: Job, *arguments: str, descriptors: Sequence[int] = ()
    ) -> AsyncIterator[Program]:
        async with running(
            *_pinned(self._core_of_reference(job), [*REFERENCE, *arguments]),
            patience=PATIENCE,
            pass_fds=descriptors,
            env={**os.environ, "OPENSSL_CONF": str(self.openssl_config)},
        ) as reference:
            yield reference

    async def _client(self, command: Sequence[str], job: Job) -> dict[str, Any]:
        with socket.create_server((HOST, 0)) as listener:
            fd, port = listener.fileno(), str(listener.getsockname()[1])
            server = ["server", job.kind, str(fd), str(self.certificate)]
            client = [*command, "client", job.kind, HOST, port, str(self.ca_file)]
            pinned = _pinned(self.measured_core, [*client, *job.arguments])
            async with (
                self._reference(job, *server, *job.arguments, descriptors=[fd]) as peer,
                running(*pinned, patience=PATIENCE) as program,
            ):
                samples, version = await read_samples(program)
                if len(samples) != job.repeat:
                    raise ProgramError(f"{len(samples)} samples, not {job.repeat}")
                seen = await read_report(peer)
        return {"samples": samples, "version": version, "endings": seen["endings"]}

    async def _server(self, command: Sequence[str], job: Job) -> dict[str, Any]:
        connections = 2 * WARM_UP + job.connections
        server = [*command, "server", job.kind, HOST, "0", str(self.certificate)]
        pinned = _pinned(self.measured_core, [*server, str(connections)])
        async with running(*pinned, patience=PATIENCE) as program:
            version, port = await read_port(program)
            address = [HOST, str(port), str(self.ca_file), str(program.process.pid)]
            clients = ["clients", job.kind, *address, str(job.connections)]
            async with self._reference(job, *clients, *job.arguments) as peer:
                try:
                    await next_object(peer)  # the clients are done
                except ProgramError as exc:
                    if program.ended.is_set():
                        await read_samples(program)  # raises if it failed
                    raise ProgramError(f"the reference peer: {exc}") from exc
                await go_on(peer)  # it answers from now on
                await go_on(program)  # to the end
                drain, _ = await read_samples(program)
                if len(drain) != 1:
                    raise ProgramError(f"{len(drain)} samples, not 1")
                seen = await read_report(peer)
        count = WARM_UP + job.connections
        samples = [Sample(*each) for each in seen["samples"]]
        return {
            "samples": samples
            or [Sample(drain[0].seconds / count, drain[0].cpu / count)],
            "version": version,
            "memory": seen["memory"],
            "endings": seen["endings"],
        }


def _pinned(core: int, command: Sequence[str]) -> Sequence[str]:
    # As taskset(1) does, which not every machine has.
    program = (
        "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); "
        "os.execvp(sys.argv[2], sys.argv[2:])"
    )
    return [sys.executable, "-c", program, str(core), *command]


def last_words(printed: str) -> str:
    """The line of a traceback that names the error, also in an exception group."""
    lines = [line.strip("| +-") for line in printed.splitlines()]
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Resource)\b", line)]
    return next(iter(errors[-1:] or [line for line in lines if line][-1:]), "")


async def next_object(program: Program) -> dict[str, Any] | None:
    """The next JSON object that it prints, a line each; None when it has ended.

    Raises:
      ProgramError: It printed something else, or it failed.
    """
    line = await program.next_line()
    if line is None:
        if code := program.process.returncode:
            words = last_words(program.log.decode(errors="replace"))
            command = " ".join(map(str, program.process.args))  # type: ignore[arg-type]
            raise ProgramError(
                f"exit code {code}: {words or f'no error from {command}'}"
            )
        return None
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ProgramError(f"not a JSON object: {line[:80]!r}")
    return found


async def go_on(program: Program) -> None:
    """Give it an empty line."""
    try:
        await program.type(b"\n")
    except trio.BrokenResourceError:
        while await next_object(program):
            pass
        raise ProgramError("it ended too early") from None


async def read_port(program: Program) -> tuple[str, int]:
    """The version of a server, and where it listens."""
    version = ""
    while (words := await next_object(program)) is not None:
        if "cannot" in words:
            raise CannotError(words["cannot"])
        if "port" in words:
            return version, int(words["port"])
        version = str(words.get("version", version))
    raise ProgramError("it has ended, and never listened")


async def read_samples(program: Program) -> tuple[list[Sample], str]:
    """All samples, and the version."""
    samples = []
    version = ""
    while (words := await next_object(program)) is not None:
        if "cannot" in words:
            raise CannotError(words["cannot"])
        if "version" in words:
            version = str(words["version"])
        else:
            try:
                samples.append(Sample(float(words["seconds"]), float(words["cpu"])))
            except (KeyError, TypeError, ValueError) as exc:
                raise ProgramError(f"not a sample: {words}") from exc
    return samples, version


async def read_report(reference: Program) -> dict[str, Any]:
    """What the reference peer has seen; all connections have to negotiate the same."""
    try:
        report = await next_object(reference)
        while await next_object(reference):
            pass
    except ProgramError as exc:
        raise ProgramError(f"the reference peer: {exc}") from exc
    if report is None:
        raise ProgramError("the reference peer printed nothing")
    sessions = {tuple(session) for session in report["sessions"]}
    if sessions != {SESSION}:
        negotiated = ", ".join(" ".join(session) for session in sorted(sessions))
        raise ProgramError(f"negotiated {negotiated}, not {' '.join(SESSION)}")
    return report
