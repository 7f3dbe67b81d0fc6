"""`unitrow verify`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from unitrow.cli import output

if TYPE_CHECKING:
    from unitrow.identity import Verification

_WORDS = {"ok": "OK", "mismatch": "FAILED", "unreadable": "FAILED open or read", "refused": "FAILED"}


@click.command("verify")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option(
    "-c",
    "--check",
    "manifests",
    metavar="MANIFEST",
    multiple=True,
    help="Lines of sha256sum or b3sum, a bag, a model-signing statement or bundle, a folder of LFS pointers.",
)
@click.option("--fail-on-missing-files", is_flag=True, help="A listed file that is absent fails.")
@click.option("--fail-on-extra-files", is_flag=True, help="A file that nothing vouches for fails.")
@click.option("--format", "form", type=click.Choice(["full", "json"]), default="full", show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="Print no line for files that are as they should be.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 1024), help="Threads. [default: what this process may use]"
)
def command(  # noqa: D103  (the help text is below, where click reads it)
    paths: tuple[str, ...],
    manifests: tuple[str, ...],
    fail_on_missing_files: bool,
    fail_on_extra_files: bool,
    form: str,
    quiet: bool,
    jobs: int | None,
) -> None:
    with output.guarded():
        from unitrow.identity import verify

        if not paths and not manifests:
            output.fail_usage("nothing to verify", "give a path, a manifest with -c, or both")
        if len(manifests) > 1:
            output.fail_usage("more than one manifest", "run once for each")
        manifest = manifests[0] if manifests else None
        try:
            result = verify(
                *paths,
                manifest=manifest,
                jobs=jobs,
                fail_on_missing=fail_on_missing_files,
                fail_on_extra=fail_on_extra_files,
            )
        except FileNotFoundError as error:
            output.fail_usage(f"path does not exist: {error.filename}")
        except OSError as error:
            output.fail_usage(f"cannot read {error.filename}: {error.strerror}")
        if form == "json":
            sys.stdout.write(json.dumps(result.to_json(), indent=2) + "\n")
        else:
            _lines(result, quiet=quiet, extras=fail_on_extra_files)
        sys.stdout.flush()
        _summary(result, manifest)
        raise SystemExit(result.exit_code)


command.help = """Compare files with the digests that they should have; needs no network.

With -c, PATHS are the folders that the manifest's names are relative to (by default the current one).
Without it, Hugging Face caches are compared with the names of their blobs, `--local-dir` downloads with their
metadata, and LFS objects with theirs.

Exit: 0 all as it should be; 1 something failed; 2 usage, or a path that does not exist; 3 nothing verified,
or something unreadable; 4 internal error; 130 interrupted."""


def _lines(result: Verification, *, quiet: bool, extras: bool) -> None:
    from unitrow.report.text import escape

    for one in result.files:
        if (one.status == "ok" and quiet) or (one.status == "extra" and not extras):
            continue
        reason = f" ({escape(one.reason)})" if one.reason else ""
        sys.stdout.write(f"{escape(one.file)}: {_WORDS.get(one.status, one.status.upper())}{reason}\n")


def _summary(result: Verification, manifest: str | None) -> None:
    from unitrow.findings import capped
    from unitrow.report.text import count_of, escape

    for note in result.notes:
        click.echo(f"note: {note}", err=True)
    for finding in capped([one for one in result.findings if one.code == "H_MANIFEST"]):
        word = "note" if finding.severity == "note" else "error"
        click.echo(f"{word}: {escape(finding.file)}: {escape(finding.message)}", err=True)
        if finding.hint:
            click.echo(f"hint: {finding.hint}", err=True)
    counts = result.counts
    if not counts and not result.findings:
        click.echo("0 files: " + _why_nothing(manifest, result), err=True)
        return
    words = {"ok": "OK", "mismatch": "FAILED"}
    others = [f"{number} {words.get(status, status)}" for status, number in sorted(counts.items())]
    click.echo(
        ", ".join([count_of(sum(counts.values()), "file") + ":", *others]).replace(":,", ":"), err=True
    )
    if not counts["ok"] and not counts["mismatch"]:
        click.echo("hint: " + _why_nothing(manifest, result), err=True)


def _why_nothing(manifest: str | None, result: Verification) -> str:
    """What to do where not one file could be compared."""
    if manifest is None:
        return "no download left anything to compare with; give a manifest with -c"
    if result.counts["missing"]:
        return "give the folder that the names are relative to"
    return "the manifest has no file with a digest that can be compared"
