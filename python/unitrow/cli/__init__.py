"""The command line: one file a command, loaded when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import cast

import click

from unitrow._native import __version__

_COMMANDS = {
    "audit": "Audit every checkpoint below some paths.",
    "inspect": "Show one file: header, tensors, layout and why it was recognised.",
    "hash": "Digest files and folders; lines that sha256sum and b3sum read.",
    "verify": "Compare files with a manifest, or with what their download left beside them.",
    "explain": "Say what a finding or a verdict means and what to do.",
    "demo": "Audit a small real set carried in the package, and variants of it.",
}


class _Commands(click.Group):
    """Loads a command's module when it is asked for, so that `--version` and `--help` stay instant."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        return cast("click.Command", import_module(f"unitrow.cli.{name}").command)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="unitrow")
def main() -> None:
    """Are decoder rows unit vectors, how do we know, and are the bytes sound?"""
