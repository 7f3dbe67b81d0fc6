"""Where reports go: a terminal, a pipe, or a file that is whole or absent. And which exit codes exist."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from unitrow.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from unitrow.report import AuditReport

FORMATS = ("full", "concise", "json", "jsonl")

EXIT_USAGE = 2
EXIT_INTERNAL = 4
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def fail_usage(message: str, hint: str = "") -> NoReturn:
    """End with exit code 2 and a message on stderr."""
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    raise SystemExit(EXIT_USAGE)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Turn an interruption into exit 130, a closed pipe into silence and a bug of ours into exit 4."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # The reader went away, as `| head` does; keep the interpreter from complaining at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_BROKEN_PIPE) from None
    except (click.ClickException, click.exceptions.Exit, SystemExit):
        raise
    except Exception:  # noqa: BLE001  (whatever it is, it is ours, and has an exit code)
        import traceback

        traceback.print_exc()
        click.echo("error: this is a bug in unitrow; the lines above say where", err=True)
        raise SystemExit(EXIT_INTERNAL) from None


def emit(report: AuditReport, form: str, output: str | None) -> None:
    """Write a report to `output`, or to stdout."""
    if output is not None:
        text = report.render(form)
        try:
            write_atomically(output, text.encode())
        except OSError as error:
            fail_usage(f"cannot write {output}: {error.strerror or error}")
        return
    options: dict[str, object] = {}
    if form == "full":
        terminal = is_terminal(sys.stdout)
        options = {
            "width": shutil.get_terminal_size().columns if terminal else None,
            "color": _color(terminal=terminal),
            "ascii_only": not _encodes("▁‖×−…"),
        }
    write(report.render(form, **options))


def write(text: str) -> None:
    """Write data to stdout; characters that it cannot encode are spelled out."""
    if sys.stdout is None:
        fail_usage("stdout is closed")
    encoding = sys.stdout.encoding or "ascii"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = None  # or the interpreter tries again at its end
        fail_usage(f"cannot write to stdout: {error.strerror or error}")


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at a stream; a closed one is `None`."""
    return stream is not None and stream.isatty()


def check_target(path: str | None) -> None:
    """End with exit code 2 if a report could not be written to `path`: better before the work than after."""
    if path is None:
        return
    if os.path.isdir(path):
        fail_usage(f"cannot write {path}: it is a folder")
    if not os.path.isdir(os.path.dirname(os.path.realpath(path))):
        fail_usage(f"cannot write {path}: its folder does not exist")


def _color(*, terminal: bool) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return terminal or bool(os.environ.get("FORCE_COLOR"))


def _encodes(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii") if sys.stdout else None
    except UnicodeEncodeError:
        return False
    return True
