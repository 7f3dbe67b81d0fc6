"""`unitrow inspect`."""

from __future__ import annotations

import click

from unitrow.cli import output


@click.command("inspect")
@click.argument("file", type=click.Path())
@click.option(
    "--norms-out", metavar="FILE.npy", help="Write the decoder's row norms as float64, one number a row."
)
def command(file: str, norms_out: str | None) -> None:
    """Header, tensors, layout and why it was recognised; with --norms-out, the norms themselves."""
    with output.guarded():
        from unitrow.inspecting import inspect

        try:
            report = inspect(file)
        except FileNotFoundError as error:
            output.fail_usage(f"path does not exist: {error.filename}")
        click.echo(report.text, nl=False)
        if norms_out is not None:
            if report.norms is None:
                click.echo("error: the file has no decoder that can be measured", err=True)
                raise SystemExit(3)
            output.write_norms(norms_out, report.norms())
        raise SystemExit(report.exit_code)
