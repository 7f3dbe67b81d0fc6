"""`unitrow inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from unitrow.atomic import write_atomically
from unitrow.cli import output

if TYPE_CHECKING:
    from unitrow.inspecting import Inspection


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
        except FileNotFoundError:
            output.fail_usage(f"path does not exist: {file}")
        except IsADirectoryError:
            output.fail_usage(f"expected a file, found a folder: {file}", f"try `unitrow audit {file}`")
        click.echo(report.text, nl=False)
        if norms_out is not None:
            if report.decoder is None:
                reason = (
                    "the structure is not sound" if report.exit_code else "no decoder whose axis is known"
                )
                click.echo(f"error: {norms_out} was not written: {reason}", err=True)
                raise SystemExit(report.exit_code or 3)
            _write_norms(norms_out, report)
        raise SystemExit(report.exit_code)


def _write_norms(path: str, report: Inspection) -> None:
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, report.norms())
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        output.fail_usage(f"cannot write {path}: {error.strerror or error}")
