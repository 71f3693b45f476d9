"""The command and its subcommands."""

from __future__ import annotations

import platform
import ssl
from typing import Final

import click
import trio

from trio_tlsdown import __version__

from ._demo import demo
from ._rogue import rogue
from .probe import merge, probe

VERSIONS = (
    f"%(prog)s %(version)s (Trio {trio.__version__}, "
    f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION})"
)


class _App(click.Group):
    """A group that has ``probe merge`` beside ``probe``, which takes any host."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[:2] == ["probe", "merge"]:
            args = ["probe merge", *args[2:]]
        return super().resolve_command(ctx, args)


EPILOG: Final = """\
\b
Shell completion, for this session:
bash: eval "$(_TRIO_TLSDOWN_COMPLETE=bash_source trio-tlsdown)"
zsh:  eval "$(_TRIO_TLSDOWN_COMPLETE=zsh_source trio-tlsdown)"
fish: _TRIO_TLSDOWN_COMPLETE=fish_source trio-tlsdown | source
"""


@click.group(
    cls=_App,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="trio-tlsdown", message=VERSIONS)
def app() -> None:
    """Show how TLS connections end."""


app.add_command(demo)
app.add_command(probe)
app.add_command(merge, "probe merge")
app.add_command(rogue)
