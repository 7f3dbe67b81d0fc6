"""`unitrow hash`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from unitrow.atomic import write_atomically
from unitrow.cli import output

if TYPE_CHECKING:
    from unitrow.identity import Hashed


@click.command("hash")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option(
    "-a",
    "--algorithm",
    type=click.Choice(["sha256", "blake3", "git-sha1", "content"]),
    default="sha256",
    show_default=True,
    help="Digest of each file; `content`: one id per checkpoint, of its tensors alone.",
)
@click.option("--tag", is_flag=True, help="Lines in the BSD form, which name the algorithm.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["sums", "bagit", "model-signing"]),
    default="sums",
    show_default=True,
    help="Lines, a bag's manifest-sha256.txt, or the statement that model_signing would sign.",
)
@click.option("-o", "--output", "target", metavar="FILE", help="Write to FILE instead of stdout.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 1024), help="Threads. [default: what this process may use]"
)
def command(  # noqa: D103  (the help text is below, where click reads it)
    paths: tuple[str, ...], algorithm: str, tag: bool, form: str, target: str | None, jobs: int | None
) -> None:
    with output.guarded():
        from unitrow.identity import hash_paths

        if form != "sums":
            _check_manifest_arguments(paths, algorithm, form, tag=tag)
        try:
            hashed = hash_paths(
                *paths,
                algorithm=algorithm,  # type: ignore[arg-type]  # click has checked the choice
                jobs=jobs,
                skip=_left_out(paths[0], form, target),
            )
        except FileNotFoundError as error:
            output.fail_usage(f"path does not exist: {error.filename}")
        _complain(hashed, paths)
        if form != "sums" and hashed.findings:
            # A manifest that leaves files out would vouch for less than it seems to.
            click.echo("error: no manifest was written, because it would not be complete", err=True)
            raise SystemExit(hashed.exit_code)
        _write(_render(hashed, paths[0], form, tag=tag), target)
        raise SystemExit(hashed.exit_code)


command.help = """Digest files, and all files below folders, in parallel.

The lines are those of sha256sum and b3sum, and `sha256sum -c`, `b3sum --check` and `unitrow verify -c` read
them. Below a folder names are relative to it; with several PATHS they begin with theirs.

Exit: 0 all hashed; 2 usage, or a path that does not exist; 3 nothing hashed, or something unreadable."""


def _check_manifest_arguments(paths: tuple[str, ...], algorithm: str, form: str, *, tag: bool) -> None:
    if len(paths) != 1 or (os.path.lexists(paths[0]) and not os.path.isdir(paths[0])):
        output.fail_usage(f"--format {form} describes one folder")
    if algorithm != "sha256" or tag:
        output.fail_usage(f"--format {form} takes SHA-256 and no --tag")


def _left_out(folder: str, form: str, target: str | None) -> set[str]:
    """Paths below the folder that do not belong into its manifest: the manifest itself, for one."""
    from unitrow.identity.statement import IGNORED

    skip = set(IGNORED) if form == "model-signing" else set()
    if target is not None:
        skip.add(os.path.relpath(os.path.realpath(target), os.path.realpath(folder)))
    return skip


def _complain(hashed: Hashed, paths: tuple[str, ...]) -> None:
    from unitrow.report.text import escape

    for finding in hashed.findings:
        click.echo(f"error: {escape(finding.file)}: {finding.code} {escape(finding.message)}", err=True)
    if not hashed.digests and not hashed.findings:
        what = "tensor file" if hashed.algorithm == "content" else "file"
        click.echo(f"error: no {what} below {escape(', '.join(paths))}", err=True)


def _render(hashed: Hashed, folder: str, form: str, *, tag: bool) -> bytes:
    if form == "bagit":
        return hashed.bagit(is_bag=os.path.lexists(os.path.join(folder, "bagit.txt")))
    if form == "model-signing":
        from unitrow.identity.statement import write_statement

        return write_statement(hashed, os.path.basename(os.path.abspath(folder)))
    return hashed.lines(tag=tag)


def _write(data: bytes, target: str | None) -> None:
    if target is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        write_atomically(target, data)
    except OSError as error:
        output.fail_usage(f"cannot write {target}: {error.strerror or error}")
