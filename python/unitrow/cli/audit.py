"""`unitrow audit`."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

import click

from unitrow.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@click.command("audit")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option(
    "--expect",
    type=click.Choice(["auto", "unit", "any"]),
    default="auto",
    show_default=True,
    help="What rows should be: as the layout's trainer leaves them, unit, or anything.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["fail", "warn", "never"]),
    default="fail",
    show_default=True,
    help="Findings from this severity on give exit code 1.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(output.FORMATS),
    default="full",
    show_default=True,
    help="Report format.",
)
@click.option("-o", "--output", "target", metavar="FILE", help="Write the report to FILE instead of stdout.")
@click.option("--select", multiple=True, metavar="CODES", help="Report only these codes, or prefixes: ST_")
@click.option("--ignore", multiple=True, metavar="CODES", help="Leave these codes (or prefixes) out.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 1024), help="Threads. [default: what this process may use]"
)
@click.option(
    "--hash",
    "digest",
    type=click.Choice(["none", "sha256", "blake3"]),
    default="none",
    show_default=True,
    help="Digest of every file, from the same read; it stands in the JSON report.",
)
@click.option(
    "--io",
    type=click.Choice(["auto", "mmap", "read"]),
    default="auto",
    show_default=True,
    help="How tensors are read; both survive files that change meanwhile. auto: read.",
)
@click.option(
    "--resume",
    metavar="FILE",
    help="Journal: made when missing, continued when there. Files it knows are not read again.",
)
@click.option("--no-run-info", is_flag=True, help="Leave times and machine out: equal input, equal bytes.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the paths that did not pass.")
def command(  # noqa: D103  (the help text is below, where click reads it)
    paths: tuple[str, ...],
    expect: str,
    fail_on: str,
    form: str,
    target: str | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    jobs: int | None,
    digest: str,
    io: str,
    resume: str | None,
    no_run_info: bool,
    quiet: bool,
) -> None:
    with output.guarded():
        from unitrow.auditing import audit
        from unitrow.discover import MissingPathError
        from unitrow.errors import JournalError

        output.check_target(target)
        if target and resume and os.path.realpath(target) == os.path.realpath(resume):
            output.fail_usage("--output and --resume name the same file")
        started = time.perf_counter()
        try:
            with _progress(shown=not quiet and output.is_terminal(sys.stderr)) as progress:
                report = audit(
                    *paths,
                    expect=expect,  # type: ignore[arg-type]  # click has checked the choice
                    fail_on=fail_on,  # type: ignore[arg-type]
                    jobs=jobs,
                    hash=digest,  # type: ignore[arg-type]
                    io=io,  # type: ignore[arg-type]
                    resume=resume,
                    select=_codes(select),
                    ignore=_codes(ignore),
                    run_info=not no_run_info,
                    progress=progress,
                )
        except MissingPathError as error:
            output.fail_usage(f"path does not exist: {error.filename}")
        except JournalError as error:
            output.fail_usage(str(error))
        except ValueError as error:
            output.fail_usage(str(error), "`unitrow explain` lists all codes")
        if quiet and target is None:
            from unitrow.report.concise import failing_paths

            output.write(failing_paths(report))
        else:
            output.emit(report, form, target)
        if not quiet:
            _closing(report.bytes, len(report.checkpoints), time.perf_counter() - started)
        raise SystemExit(report.exit_code)


command.help = """Norms, values and structure of every checkpoint below PATHS.

Exit: 0 clean; 1 findings at or above --fail-on; 2 usage, or a path that does not exist; 3 nothing audited,
or something unreadable or undecided; 4 internal error; 130 interrupted."""


@contextlib.contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on stderr that goes away when it is done; nothing where stderr is no terminal."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _codes(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code.strip().upper() for value in values for code in value.split(",") if code.strip())


def _closing(size: int, checkpoints: int, seconds: float) -> None:
    from unitrow.report.text import size as human

    if checkpoints == 0:
        click.echo("no checkpoint found: looked for .safetensors, .npz and .npy files", err=True)
    elif output.is_terminal(sys.stderr):
        click.echo(f"{human(size)} in {seconds:.2f} s: {human(int(size / seconds))}/s", err=True)
