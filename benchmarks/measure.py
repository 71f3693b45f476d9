"""One measurement: a program and its far end, each in a fresh process."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from .child import Child, ProgramError
from .clock import Lap
from .quiet import Disturbance, Watch, cpu_of
from .workloads.hold import WARM_UP
from .workloads.job import Job

HOST: Final = "127.0.0.1"
SESSION: Final = ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
FAR_END: Final = (sys.executable, "-m", f"{__package__}.far_end")
PATIENCE: Final = 120.0  # seconds for one measurement
SETTLE: Final = 0.1  # seconds, until what a connection leaves to do is done

# The far end's OpenSSL agrees to one cipher only, so that it is the same for all.
OPENSSL_CONFIG: Final = f"""\
openssl_conf = all
[all]
ssl_conf = modules
[modules]
system_default = tls
[tls]
Ciphersuites = {SESSION[1]}
"""


class CannotError(Exception):
    """A stack has no way to do a workload, and says why."""


@dataclass(frozen=True)
class Measurement:
    laps: Sequence[Lap]
    disturbance: Disturbance
    endings: Mapping[str, int]
    """How the far end saw connections end: with close_notify, or cut."""
    session: str
    """What was negotiated, and the kind of certificate."""
    memory: float | None = None
    """Bytes that the server grew by, for each connection."""
    version: str = ""


@dataclass
class Bench:
    """What all measurements share: certificates, and the cores of both ends."""

    folder: Path
    measured_core: int = field(init=False)
    far_core: int = field(init=False)

    def __post_init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.far_core, self.measured_core = cores[0], cores[-1]
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(self.ca_file))
        issued = ca.issue_cert(HOST)
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
        """Run *command* and its far end.

        Raises:
          CannotError: it says that it cannot do that.
          ProgramError: it fails, or does not keep to the protocol.
        """
        far_core = self.measured_core if job.one_core else self.far_core
        watch = Watch({self.measured_core, far_core})
        own = time.process_time()
        run = self._serve if job.kind == "hold" else self._connect
        program, far, found = run(command, job)
        spent: dict[int, float] = {}
        for child, core in (program, self.measured_core), (far, far_core):
            assert child.usage is not None
            spent[core] = spent.get(core, 0.0) + cpu_of(child.usage)
        # Where this runs itself is the scheduler's choice: allow it on either.
        own = time.process_time() - own
        spent = {core: cpu + own for core, cpu in spent.items()}
        return Measurement(disturbance=watch.end(spent), **found)

    def _program(self, command: Sequence[str]) -> Child:
        return Child(command, core=self.measured_core, patience=PATIENCE)

    def _far_end(self, command: Sequence[str], job: Job, *descriptors: int) -> Child:
        return Child(
            command,
            core=self.measured_core if job.one_core else self.far_core,
            patience=PATIENCE,
            descriptors=descriptors,
            environment={"OPENSSL_CONF": str(self.openssl_config)},
        )

    def _connect(
        self, command: Sequence[str], job: Job
    ) -> tuple[Child, Child, dict[str, Any]]:
        with socket.create_server((HOST, 0)) as listener:
            fd, port = listener.fileno(), str(listener.getsockname()[1])
            server = [*FAR_END, "server", job.kind, str(fd), str(self.certificate)]
            client = [*command, "client", job.kind, HOST, port, str(self.ca_file)]
            with (
                self._far_end([*server, *job.arguments], job, fd) as far,
                self._program([*client, *job.arguments]) as program,
            ):
                laps, version = _read(program)
                if len(laps) != job.repeat:
                    raise ProgramError(f"{len(laps)} laps came, not {job.repeat}")
                found = {"laps": laps, "version": version, **self._seen(far)}
        return program, far, found

    def _serve(
        self, command: Sequence[str], job: Job
    ) -> tuple[Child, Child, dict[str, Any]]:
        connections = str(WARM_UP + job.repeat)
        server = [*command, "server", job.kind, HOST, "0", str(self.certificate)]
        with self._program([*server, connections]) as program:
            version, port = _until_it_listens(program)
            clients = [*FAR_END, "clients", HOST, str(port), str(self.ca_file)]
            with self._far_end([*clients, str(job.repeat)], job) as far:
                sizes = []
                for _ in range(2):
                    far.next("connections")
                    time.sleep(SETTLE)
                    sizes.append(_resident(program.pid))
                    if len(sizes) == 1:
                        far.tell()
                far.tell()  # answers from now on
                program.tell()
                laps, _ = _read(program)
                if len(laps) != 1:
                    raise ProgramError(f"{len(laps)} laps came, not 1")
                found = {
                    "laps": laps,
                    "version": version,
                    "memory": (sizes[1] - sizes[0]) / job.repeat,
                    **self._seen(far),
                }
        return program, far, found

    def _seen(self, far: Child) -> dict[str, Any]:
        endings = _check(far)
        session = f"{' '.join(SESSION)} with a certificate of {_kind(self.certificate)}"
        return {"session": session, "endings": endings}


def _kind(certificate: Path) -> str:
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return f"ECDSA, {key.curve.name}"


def _resident(pid: int) -> int:
    """Bytes."""
    pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _until_it_listens(program: Child) -> tuple[str, int]:
    version = ""
    for words in program.words():
        if "cannot" in words:
            raise CannotError(words["cannot"])
        if "port" in words:
            return version, int(words["port"])
        version = str(words.get("version", version))
    raise ProgramError("it has ended, and never listened")


def _read(program: Child) -> tuple[list[Lap], str]:
    laps = []
    version = ""
    for words in program.words():
        if "cannot" in words:
            raise CannotError(words["cannot"])
        if "version" in words:
            version = str(words["version"])
        else:
            try:
                laps.append(Lap(float(words["seconds"]), float(words["cpu"])))
            except (KeyError, TypeError, ValueError) as exc:
                raise ProgramError(f"this is no lap: {words}") from exc
    return laps, version


def _words_of(far: Child) -> Iterator[dict[str, Any]]:
    try:
        yield from far.words()
    except ProgramError as exc:
        raise ProgramError(f"the far end: {exc}") from exc


def _check(far: Child) -> dict[str, int]:
    """How connections ended; all of them must have negotiated the same."""
    for words in _words_of(far):
        sessions = {tuple(session) for session in words["sessions"]}
        if sessions != {SESSION}:
            negotiated = ", ".join(" ".join(session) for session in sorted(sessions))
            raise ProgramError(f"negotiated {negotiated}, not {' '.join(SESSION)}")
        endings: dict[str, int] = words["endings"]
        for _ in _words_of(far):  # to the end
            pass
        return endings
    raise ProgramError("the far end has said nothing")
