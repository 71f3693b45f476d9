"""The labs: programs that play peers. ``../README.md`` has their line protocol."""

from pathlib import Path


def source(name: str) -> str:
    """The name of a file here."""
    return str(Path(__file__).parent / name)
