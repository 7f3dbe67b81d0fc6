"""`--resume`: an audit that was killed anywhere goes on, and reports what one clean run reports."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import unitrow as ur
from checkpoints import saelens_arrays, safetensors_bytes, unit_rows, write_saelens
from unitrow import JournalError

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))


def command(folder, journal, *options):
    options = ("--format", "json", "--no-run-info", "--fail-on", "never", *options)
    return [sys.executable, "-m", "unitrow", "audit", str(folder), "--resume", str(journal), *options]


def run(*arguments):
    done = subprocess.run(command(*arguments), capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of several verdicts, one that needs a look at its other axis, one damaged, one with NaN."""
    folder = tmp_path / "saes"
    decoder = unit_rows(256, 48)
    for index in range(6):
        write_saelens(folder / str(index), decoder)
    matrix = np.random.default_rng(0).normal(size=(256, 48))
    write_saelens(folder / "wrong", (matrix / np.linalg.norm(matrix, axis=0)).astype(np.float32))
    (folder / "strided.safetensors").write_bytes(
        safetensors_bytes({**saelens_arrays(decoder), "W_dec": np.ascontiguousarray(decoder.T)})
    )
    decoder[3, 5] = np.nan
    write_saelens(folder / "nan", decoder)
    (folder / "cut.safetensors").write_bytes(b"\x10")
    return folder


def records(journal):
    return journal.read_bytes().splitlines(keepends=True)[1:]


def test_a_resumed_report_is_that_of_a_clean_run(folder, tmp_path):
    journal = tmp_path / "journal"
    clean = ur.audit(folder, run_info=False).to_json()
    first = ur.audit(folder, run_info=False, resume=journal).to_json()
    whole = journal.read_bytes()
    again = ur.audit(folder, run_info=False, resume=journal).to_json()
    assert first == again == clean
    assert journal.read_bytes() == whole, "nothing was read again"


def test_a_journal_cut_anywhere_goes_on(folder, tmp_path):
    journal = tmp_path / "journal"
    clean = ur.audit(folder, run_info=False, hash="sha256", resume=journal).to_json()
    whole = journal.read_bytes()
    generator = np.random.default_rng(0)
    for length in [0, 1, *sorted(generator.choice(len(whole), 20).tolist()), len(whole)]:
        journal.write_bytes(whole[:length])
        assert ur.audit(folder, run_info=False, hash="sha256", resume=journal).to_json() == clean
        assert sorted(records(journal)) == sorted(whole.splitlines(keepends=True)[1:]), length


def test_a_damaged_record_is_not_believed(folder, tmp_path):
    journal = tmp_path / "journal"
    clean = ur.audit(folder, run_info=False, resume=journal).to_json()
    whole = journal.read_bytes()
    head = whole.index(b"\n") + 1
    for place in np.random.default_rng(1).integers(head, len(whole), 20):
        journal.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert ur.audit(folder, run_info=False, resume=journal).to_json() == clean


def test_a_file_that_changed_is_read_again(folder, tmp_path):
    journal = tmp_path / "journal"
    ur.audit(folder, resume=journal)
    before = len(records(journal))
    write_saelens(folder / "3", unit_rows(256, 48) * np.float32(0.5))
    report = ur.audit(folder, run_info=False, resume=journal)
    assert report.to_json() == ur.audit(folder, run_info=False).to_json()
    assert next(one for one in report.checkpoints if one["path"] == "3")["verdict"] == "uniform"
    # The file itself, and the probe of its other axis.
    assert before < len(records(journal)) <= before + 2


def killed_and_resumed(folder, journal, seconds, options=()):
    """Kill a run after some time, then let one finish; returns whether it was killed, and the report."""
    with subprocess.Popen(command(folder, journal, *options), stdout=subprocess.DEVNULL) as process:
        time.sleep(seconds)
        killed = process.poll() is None
        process.send_signal(signal.SIGKILL)
    code, out, err = run(folder, journal, *options)
    assert code in {0, 3}, err
    return killed, out


def test_killed_at_random_points_then_resumed(folder, tmp_path):
    for index in range(40):
        write_saelens(folder / f"more{index}", unit_rows(2048, 200))
    started = time.monotonic()
    clean = run(folder, tmp_path / "clean")[1]
    whole = time.monotonic() - started
    generator = np.random.default_rng(2)
    ends = time.monotonic() + SOAK_SECONDS
    rounds = killed = 0
    while rounds < 4 or time.monotonic() < ends:
        journal = tmp_path / f"journal{rounds}"
        was_killed, report = killed_and_resumed(folder, journal, generator.uniform(0.4, 1.1) * whole)
        assert report == clean, f"after {rounds} rounds"
        rounds += 1
        killed += was_killed
    assert killed > 0 or rounds < 8


def refusal(*arguments, **options):
    with pytest.raises(JournalError) as raised:
        ur.audit(*arguments, **options)
    return str(raised.value)


def test_journals_that_cannot_be_used_say_why(folder, tmp_path):
    journal = tmp_path / "journal"
    ur.audit(folder, resume=journal)
    assert "begun with --hash none, and now it is --hash sha256" in refusal(
        folder, resume=journal, hash="sha256"
    )
    head = json.loads(journal.read_bytes().splitlines()[0])
    from unitrow.journal import _line

    del head["crc"]
    journal.write_bytes(_line({**head, "version": "0.0.9"}))
    assert "unitrow 0.0.9 wrote it" in refusal(folder, resume=journal)
    for foreign in (b"hello\n", b"hello", b'{"a":1}\n', b"\0" * 4096):
        journal.write_bytes(foreign)
        assert "it is no journal" in refusal(folder, resume=journal)
        assert journal.read_bytes() == foreign, "a file of somebody else's is left alone"
    assert "Is a directory" in refusal(folder, resume=tmp_path)
    assert "No such file" in refusal(folder, resume=tmp_path / "no" / "journal")
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in refusal(folder, resume=tmp_path / "fifo")
    assert "which is audited" in refusal(folder, resume=folder / "journal")
    assert not (folder / "journal").exists()
    one = folder / "0" / "sae_weights.safetensors"
    assert "it is audited itself" in refusal(one, resume=one)
    assert ur.audit(one).exit_code == 0


def test_two_audits_do_not_share_a_journal(folder, tmp_path):
    from unitrow.journal import Journal

    with Journal(str(tmp_path / "journal"), {"hash": "none"}):
        code, _, err = run(folder, tmp_path / "journal")
    assert (code, "another audit is using it" in err) == (2, True)


def test_a_report_does_not_replace_the_journal(folder, tmp_path):
    code, _, err = run(folder, tmp_path / "journal", "-o", str(tmp_path / "journal"))
    assert (code, err) == (2, "error: --output and --resume name the same file\n")


def test_a_full_disk_under_the_journal_is_said(folder, tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))"
    script = f"{limit}; from unitrow.cli import main; main()"
    arguments = command(folder, tmp_path / "journal")[3:]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, check=False)
    assert done.returncode == 2
    assert b"File too large" in done.stderr
    assert b"Traceback" not in done.stderr
    code, out, err = run(folder, tmp_path / "journal")
    assert (code, out.decode()) == (3, run(folder, tmp_path / "clean")[1].decode()), err
