"""What came of probing a host, and the same in terms that JSON has."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

import attrs

from ._certificate import Certificate
from ._checks import CHECKS, Check, Finding, Observations, Verdict, Version, worst
from ._observe import Observation
from ._remedies import remedy
from ._targets import Target

SCHEMA_VERSION: Final = 1


@attrs.frozen(kw_only=True)
class VersionResult:
    """What came of probing a host with one TLS version."""

    tls: Version
    error: str | None = None
    """Why there was no session."""

    unsupported: bool = False
    """Whether that was because the server does not speak this version."""

    cipher: str | None = None
    certificate: Certificate | None = None
    findings: Mapping[str, Finding] = attrs.field(factory=dict[str, Finding])
    """By the id of the check; empty if there was no session."""

    seen: Observations = attrs.field(factory=dict[Any, Observation])
    resembles: str | None = None


@attrs.frozen(kw_only=True)
class HostResult:
    """What came of probing a host."""

    target: Target
    protocol: str
    began: dt.datetime
    seconds: float
    address: str | None
    banner: str | None
    insecure: bool
    versions: tuple[VersionResult, ...]

    @property
    def reachable(self) -> bool:
        """Whether there was a session of any version."""
        return any(version.error is None for version in self.versions)

    @property
    def about(self) -> str:
        """How it was spoken to, where, and what it says of itself; for people."""
        about = [self.protocol]
        if self.address not in (None, self.target.host):
            about.append(f"at {self.address}")
        if self.banner:
            about.append(f"calls itself {self.banner}")
        return ", ".join(about)

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return worst(
            {
                finding.verdict
                for version in self.versions
                for finding in version.findings.values()
            }
        )


def as_json(result: HostResult) -> dict[str, Any]:
    """A result as ``--json`` has it: ``--schema`` describes it."""
    return {
        "schema": SCHEMA_VERSION,
        "host": result.target.host,
        "port": result.target.port,
        "protocol": result.protocol,
        "address": result.address,
        "server": result.banner,
        "began": result.began.isoformat(timespec="milliseconds"),
        "seconds": round(result.seconds, 3),
        "insecure": result.insecure,
        "reachable": result.reachable,
        "verdict": result.verdict.value,
        "versions": [
            {
                "tls": version.tls,
                "error": version.error,
                "unsupported": version.unsupported,
                "cipher": version.cipher,
                "certificate": _certificate(version.certificate),
                "resembles": version.resembles,
                "checks": [
                    _check(check, finding, version.tls, result.banner)
                    for check in CHECKS
                    if (finding := version.findings.get(check.id))
                ],
                "connections": [_connection(seen) for seen in version.seen.values()],
            }
            for version in result.versions
        ],
    }


def _certificate(certificate: Certificate | None) -> dict[str, str] | None:
    if certificate is None:
        return None
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "not_after": certificate.not_after.isoformat(),
    }


def _check(
    check: Check, finding: Finding, version: Version, banner: str | None
) -> dict[str, Any]:
    bad = finding.verdict in (Verdict.WARN, Verdict.FAIL)
    return {
        "id": check.id,
        "verdict": finding.verdict.value,
        "question": check.question,
        "seen": finding.seen,
        "rfc": check.rfc[version],
        "meaning": check.meaning if bad else None,
        "remedy": attrs.asdict(remedy(check.id, banner)) if bad else None,
    }


def _connection(seen: Observation) -> dict[str, Any]:
    return {
        "experiment": seen.experiment.value,
        "seconds": round(seen.seconds, 3),
        "resumed": seen.resumed,
        "close_notify_sent_ms": _ms(seen.ours),
        "close_notify_received_ms": _ms(seen.theirs),
        "ending": seen.ending.value,
        "ended_ms": _ms(seen.ended),
        "alert": seen.alert,
        "mid_record": seen.mid_record,
        "data_before": seen.data_before,
        "data_after": seen.data_after,
        "whole": seen.whole,
        "behind": seen.behind.value,
        "tcp": seen.tcp.value,
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def as_line(result: HostResult) -> str:
    """A result as one line of JSON, all of it in ASCII."""
    return json.dumps(as_json(result), separators=(",", ":"))


def schema() -> str:
    """The JSON Schema of such a line."""
    return files("trio_tlsdown.cli.probe").joinpath("schema.json").read_text("utf-8")
