"""What a disk, a network or another program can do to a file while it is audited, at every read of it."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import unitrow as ur
from checkpoints import saelens_arrays, safetensors_bytes, unit_rows, write_saelens

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))

EVERY_READ = """
import ctypes, json, os, shutil, sys
import unitrow as ur
shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
path, spare, digest, *kinds = sys.argv[1:]
def audit(kind, at):
    shutil.copy(spare, path)
    os.utime(path, (1, 1))
    shim.fault_set(kind.encode(), at)
    report = ur.audit(path, hash=digest, jobs=1, run_info=False)
    calls = shim.fault_calls()
    shim.fault_set(b"none", 0)
    return report, calls
clean, calls = audit("none", 1 << 20)
print(json.dumps([None, calls, clean.exit_code, json.loads(clean.to_json())]))
for kind in kinds:
    for at in range(1, calls + 1):
        report, _ = audit(kind, at)
        print(json.dumps([kind, at, report.exit_code, json.loads(report.to_json())]))
"""


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make the library that injects faults")
    library = tmp_path_factory.mktemp("shim") / "faults.so"
    source = Path(__file__).with_name("faults") / "shim.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return str(library)


def files(folder):
    """Small files of every way to be read: along with the pass, strided, stored and deflated members."""
    arrays = saelens_arrays(unit_rows(64, 24))
    strided = {**arrays, "W_dec": np.ascontiguousarray(arrays["W_dec"].T)}
    (folder / "plain.safetensors").write_bytes(safetensors_bytes(arrays))
    (folder / "strided.safetensors").write_bytes(safetensors_bytes(strided))
    np.savez(folder / "stored.npz", **arrays)
    np.savez_compressed(folder / "deflated.npz", **arrays)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("digest", ["none", "sha256", "blake3"])
def test_every_read_may_fail_be_short_be_interrupted_or_find_another_file(tmp_path, shim, digest):
    kinds = ["EIO", "ESTALE", "short", "EINTR", "cut", "grow", "rewrite"]
    for spare in files(tmp_path):
        path = tmp_path / "used" / spare.name
        path.parent.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", EVERY_READ, str(path), str(spare), digest, *kinds],
            env={**os.environ, "LD_PRELOAD": shim},
            capture_output=True,
            check=True,
        )
        clean, *others = map(json.loads, done.stdout.splitlines())
        assert (clean[2], clean[1] > 2, len(others)) == (0, True, clean[1] * len(kinds))
        for kind, at, code, report in others:
            place = (spare.name, kind, at)
            (one,) = report["checkpoints"]
            codes = {found["code"] for found in one["findings"]}
            if kind in {"short", "EINTR"}:
                assert (code, report) == (0, clean[3]), place
            elif kind in {"EIO", "ESTALE"}:
                assert (code, one["integrity"], "FS_IO" in codes) == (3, "unreadable", True), place
            else:
                assert code != 0, place
                assert one["integrity"] in {"unreadable", "fail"}, place
                assert one["verdict"] == "undecided", place


def test_a_map_that_is_cut_costs_a_child_and_not_the_audit(tmp_path, shim):
    good, bad = (write_saelens(tmp_path / name, unit_rows(4096, 256)) for name in ("good", "bad"))
    path = bad / "sae_weights.safetensors"
    whole = path.read_bytes()
    for at in (1, 2, 9):
        path.write_bytes(whole)
        done = subprocess.run(
            [sys.executable, "-m", "unitrow", "audit", str(tmp_path), "--io", "mmap", "--format", "json"],
            env={
                **os.environ,
                "LD_PRELOAD": shim,
                "FAULT_KIND": "cut-mapped",
                "FAULT_AT": str(at),
                "FAULT_PATH": str(path),
            },
            capture_output=True,
            check=False,
        )
        said = {one["path"]: one["integrity"] for one in json.loads(done.stdout)["checkpoints"]}
        assert said == {"bad": "unreadable", good.name: "pass"}, (at, done.stderr)
        assert done.returncode == 3


def test_mapping_and_reading_report_the_same(tmp_path):
    write_saelens(tmp_path / "plain", unit_rows(700, 517))
    files(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "plain.safetensors").read_bytes()[:-5])
    for digest in ("none", "sha256", "blake3"):
        reports = [
            ur.audit(tmp_path, io=io, hash=digest, run_info=False).to_json()
            for io in ("auto", "read", "mmap")
        ]
        assert reports[0] == reports[1] == reports[2]


def test_code_beside_what_is_audited_is_not_run(tmp_path):
    """A child that is started in the audited folder would take `json` from there."""
    write_saelens(tmp_path, unit_rows(256, 48))
    (tmp_path / "json.py").write_text("open('was_run', 'w')")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "unitrow", "audit", ".", "--io", "mmap"], cwd=tmp_path, check=False
    )
    assert (done.returncode, (tmp_path / "was_run").exists()) == (0, False)


def meddlers(path, whole):
    def replace():
        other = path.with_name("other")
        other.write_bytes(whole[:-4] + b"abcd")
        other.replace(path)

    def rewrite():
        with path.open("r+b") as file:
            file.seek(len(whole) // 2)
            file.write(b"abcd")

    def grow():
        with path.open("ab") as file:
            file.write(b"abcd")

    return [lambda: os.truncate(path, len(whole) // 2), grow, rewrite, replace]


@pytest.mark.parametrize("io", ["read", "mmap"])
def test_a_file_that_changes_at_any_moment_never_kills_and_never_passes(tmp_path, io):
    path = write_saelens(tmp_path, unit_rows(8192, 512)) / "sae_weights.safetensors"
    whole = path.read_bytes()
    started = time.monotonic()
    assert ur.audit(tmp_path, io=io).exit_code == 0
    lasts = time.monotonic() - started
    generator = np.random.default_rng(3)
    ends, rounds = time.monotonic() + SOAK_SECONDS / 2, 0
    while rounds < 8 or time.monotonic() < ends:
        path.unlink()
        path.write_bytes(whole)
        os.utime(path, (1, 1))
        meddle = meddlers(path, whole)[rounds % 4]
        timer = threading.Timer(generator.uniform(0, lasts), meddle)
        timer.start()
        report = ur.audit(tmp_path, io=io, run_info=False)
        finished = time.monotonic()
        timer.join()
        one = report.checkpoints[0]
        assert report.exit_code in {0, 1, 3}
        if one["verdict"] != "unit":
            assert report.exit_code != 0
            assert one["integrity"] in {"unreadable", "fail"} or rounds % 4 == 3, one["findings"]
        assert finished > 0
        rounds += 1


def test_nothing_but_regular_files_is_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.safetensors")
    for name, target in (("null", "/dev/null"), ("random", "/dev/urandom"), ("memory", "/proc/self/mem")):
        (tmp_path / f"{name}.safetensors").symlink_to(target)
    for io in ("read", "mmap"):
        report = ur.audit(tmp_path, io=io, hash="sha256")
        assert {one["integrity"] for one in report.checkpoints} <= {"unreadable", "fail"}
        assert len(report.checkpoints) == 4
        assert report.exit_code != 0


def snapshot(folder):
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns, path.lstat().st_size)
        for path in [folder, *folder.rglob("*")]
    }


def test_the_audited_tree_is_never_written_to(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    files(tree)
    for path in [*tree.iterdir(), tree]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(tree)
    for options in ({}, {"hash": "sha256", "io": "mmap"}, {"hash": "blake3", "resume": tmp_path / "journal"}):
        assert ur.audit(tree, **options).exit_code == 0
    assert snapshot(tree) == before
