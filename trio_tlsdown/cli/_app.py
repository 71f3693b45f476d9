"""The command and its subcommands."""

from __future__ import annotations

import platform
import ssl

import click
import trio

from trio_tlsdown import __version__

from ._demo import demo

VERSIONS = (
    f"%(prog)s %(version)s (Trio {trio.__version__}, "
    f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION})"
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trio-tlsdown", message=VERSIONS)
def app() -> None:
    """Show how TLS connections end."""


app.add_command(demo)
