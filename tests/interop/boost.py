"""Boost.Asio's lab, and how it is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .compiling import compiled, require_headers
from .labs import source
from .programs import require

LAB: Final = "boost/lab.cpp"
OPTIONS: Final = ("-std=c++17", "-pthread")
LIBRARIES: Final = ("-lssl", "-lcrypto")


def command(folder: Path) -> Sequence[str]:
    compiler, lab = require("g++"), source(LAB)
    versions = require_headers(
        compiler,
        "boost/version.hpp",
        "openssl/ssl.h",
        words="BOOST_VERSION, OPENSSL_VERSION_STR",
    )
    build = [
        compiler,
        *OPTIONS,
        f"-DVERSIONS={versions}",
        lab,
        "-o",
        "OUTPUT",
        *LIBRARIES,
    ]
    return [compiled(folder, [lab], build)]
