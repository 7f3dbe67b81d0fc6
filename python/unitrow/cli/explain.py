"""`unitrow explain`."""

from __future__ import annotations

import click

from unitrow.cli import output


@click.command("explain")
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Say what a finding or a verdict means and what to do. Without CODE, list them all."""
    with output.guarded():
        from unitrow import explain

        if code is None:
            for name in explain.codes():
                click.echo(f"{name:<24} {explain.lookup(name).title}")
            return
        try:
            entry = explain.lookup(code)
        except KeyError as error:
            near = ", ".join(map(str, error.args[1:] if len(error.args) > 1 else ()))
            output.fail_usage(
                f"no finding or verdict is called {code!r}",
                f"did you mean {near}?" if near else "`unitrow explain` lists all of them",
            )
        click.echo(explain.render(entry))
