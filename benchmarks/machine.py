"""Where the figures come from."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import shutil
import ssl
import subprocess
from pathlib import Path

import trio_tlsdown


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def commit_of(folder: Path) -> str | None:
    """The commit that is checked out there, and whether a file of it was changed."""
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():  # that of a tree around it is not
        return None
    found = subprocess.run(  # noqa: S603 - found by us
        [git, "-C", folder, "describe", "--always", "--dirty=, changed", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"commit {found.stdout.strip()}" if found.returncode == 0 else None


def describe() -> dict[str, str]:
    """The machine and the versions, by what they are of."""
    found = {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "OpenSSL": ssl.OPENSSL_VERSION,
    }
    for package in ("trio-tlsdown", "trio", "anyio", "uvloop"):
        found[package] = _version_of(package)
    if commit := commit_of(Path(trio_tlsdown.__file__).parent.parent):
        found["trio-tlsdown"] += f" ({commit})"
    return found
