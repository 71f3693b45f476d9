"""Results as a JUnit report: a suite for each host, a case for each check."""

from __future__ import annotations

from typing import TextIO
from xml.sax.saxutils import escape, quoteattr

from ._checks import CHECKS, Check, Finding, Verdict
from ._remedies import remedy
from ._results import HostResult, VersionResult


class JUnitReport:
    """Writes as it goes: nothing is kept.

    Args:
      file: Where to write.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<testsuites>\n')

    def add(self, result: HostResult) -> None:
        """Write a suite."""
        cases = [
            case
            for version in result.versions
            for case in _cases(version, result.target, result.banner)
        ]
        failures = sum("<failure" in case for case in cases)
        errors = sum("<error" in case for case in cases)
        skipped = sum("<skipped" in case for case in cases)
        self._file.write(
            f'<testsuite name={quoteattr(str(result.target))} tests="{len(cases)}" '
            f'failures="{failures}" errors="{errors}" skipped="{skipped}" '
            f'time="{result.seconds:.3f}" '
            f'timestamp="{result.began.isoformat(timespec="seconds")}">\n'
        )
        self._file.writelines(cases)
        self._file.write("</testsuite>\n")

    def finish(self) -> None:
        """Write the end."""
        self._file.write("</testsuites>\n")


def _cases(version: VersionResult, target: object, banner: str | None) -> list[str]:
    where = quoteattr(f"{target} TLS {version.tls}")
    if version.error is not None:
        inner = "skipped" if version.unsupported else "error"
        what = f"<{inner} message={quoteattr(version.error)}/>"
        return [f'<testcase classname={where} name="handshake">{what}</testcase>\n']
    return [
        f"<testcase classname={where} name={quoteattr(check.id)}>"
        f"{_outcome(check, version.findings[check.id], version, banner)}</testcase>\n"
        for check in CHECKS
    ]


def _outcome(
    check: Check, finding: Finding, version: VersionResult, banner: str | None
) -> str:
    seen = quoteattr(finding.seen)
    match finding.verdict:
        case Verdict.FAIL:
            advice = remedy(check.id, banner)
            why = f"{check.rfc[version.tls]}: {check.meaning} {advice.advice}"
            return f"<failure message={seen}>{escape(why)}</failure>"
        case Verdict.NOT_APPLICABLE:
            return f"<skipped message={seen}/>"
        case Verdict.WARN:
            return f"<system-out>warning: {escape(finding.seen)}</system-out>"
        case _:  # PASS
            return f"<system-out>{escape(finding.seen)}</system-out>"
