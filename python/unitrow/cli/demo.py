"""`unitrow demo`."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unitrow.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrow.report import AuditReport


@click.command("demo")
@click.option("--keep", metavar="DIR", type=click.Path(), help="Write the checkpoints to DIR and leave them.")
@click.option("--format", "form", type=click.Choice(output.FORMATS), default="full", show_default=True)
def command(keep: str | None, form: str) -> None:
    """Audit a small real set carried in the package, and variants of it.

    Exits with 0 if every verdict is the one that how the file was made calls for.
    """
    with output.guarded(), _directory(keep) as directory:
        from unitrow.auditing import audit
        from unitrow.demo import write_variants

        try:
            write_variants(directory)
        except OSError as error:
            output.fail_usage(f"cannot write the demonstration to {directory}: {error.strerror or error}")
        report = audit(directory, run_info=False)
        output.emit(report, form, None)
        wrong = _wrong(report)
        for line in wrong:
            click.echo(f"error: {line}", err=True)
        raise SystemExit(output.EXIT_INTERNAL if wrong else 0)


@contextlib.contextmanager
def _directory(keep: str | None) -> Iterator[Path]:
    if keep is not None:
        yield Path(keep)
        return
    with tempfile.TemporaryDirectory(prefix="unitrow-demo-") as temporary:
        yield Path(temporary)


def _wrong(report: AuditReport) -> list[str]:
    from unitrow.demo import VARIANTS

    said = {one["path"]: (one["verdict"], one["integrity"]) for one in report.checkpoints}
    return [
        f"{variant.path}: expected {variant.verdict} ({variant.integrity}), found {said.get(variant.path)}"
        for variant in VARIANTS
        if said.get(variant.path) != (variant.verdict, variant.integrity)
    ]
