"""What a user of the command line sees: exit codes, stdout, stderr."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import unitrow as ur
from checkpoints import unit_rows, write_saelens


def test_version_and_import_load_neither_numpy_nor_torch(cli):
    done = cli("--version", check=0)
    assert done.stdout == f"unitrow, version {ur.__version__}\n"
    code = "import sys, unitrow, unitrow.cli; print({'numpy', 'torch', 'rich', 'yaml'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "set()\n"


def test_help_names_every_command(cli):
    shown = cli("--help", check=0).stdout
    for name in ("audit", "inspect", "explain", "demo"):
        assert name in shown
        assert "Usage" in cli(name, "--help", check=0).stdout


def test_audit_prints_a_table_with_findings_and_totals(cli, tmp_path):
    write_saelens(tmp_path / "good", unit_rows(256, 48))
    shown = cli("audit", ".", check=0).stdout
    header, row, why, *_ = shown.splitlines()
    assert header.split() == ["PATH", "DECODER", "VERDICT", "‖w‖−1"]
    assert row.split()[:5] == ["good", "W_dec", "F32", "256×48", "unit"]
    assert why.startswith("  All 256 rows are unit vectors")
    assert shown.splitlines()[-1].startswith("1 checkpoint (")
    assert "\x1b" not in shown


def test_data_goes_to_stdout_and_words_to_stderr(cli, tmp_path):
    write_saelens(tmp_path / "good", unit_rows(256, 48))
    done = cli("audit", ".", "--format", "json", check=0)
    assert json.loads(done.stdout)["summary"]["by_verdict"] == {"unit": 1}
    assert done.stderr == ""


@pytest.mark.parametrize("form", ["full", "concise", "json", "jsonl"])
def test_every_format_is_the_same_on_stdout_and_in_a_file(cli, tmp_path, form):
    write_saelens(tmp_path / "good", unit_rows(256, 48))
    printed = cli("audit", "good", "--format", form, "--no-run-info", check=0).stdout
    cli("audit", "good", "--format", form, "--no-run-info", "-o", "report", check=0)
    assert (tmp_path / "report").read_text() == printed
    assert sorted(os.listdir(tmp_path)) == ["good", "report"]


def test_jsonl_is_one_checkpoint_a_line(cli, tmp_path):
    for name in "ab":
        write_saelens(tmp_path / name, unit_rows(256, 48))
    lines = cli("audit", ".", "--format", "jsonl", check=0).stdout.splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["a", "b"]


def test_quiet_prints_only_what_did_not_pass(cli, tmp_path):
    write_saelens(tmp_path / "good", unit_rows(256, 48))
    bad = write_saelens(tmp_path / "bad", unit_rows(256, 48))
    os.truncate(bad / "sae_weights.safetensors", 1000)
    done = cli("audit", "-q", ".", check=1)
    assert (done.stdout, done.stderr) == ("./bad\n", "")


def test_a_path_that_does_not_exist_is_a_usage_error(cli):
    done = cli("audit", "nowhere", check=2)
    assert (done.stdout, done.stderr) == ("", "error: path does not exist: nowhere\n")


def test_nothing_found_says_what_was_looked_for(cli):
    assert "no checkpoint found" in cli("audit", ".", check=3).stderr


def test_a_report_that_cannot_be_written_is_a_usage_error(cli, tmp_path):
    write_saelens(tmp_path / "good", unit_rows(256, 48))
    done = cli("audit", "good", "-o", "no/such/folder/report", check=2)
    assert "cannot write no/such/folder/report" in done.stderr
    assert "it is a folder" in cli("audit", "good", "-o", ".", check=2).stderr


def test_hostile_names_are_spelled_out(cli, tmp_path):
    name = "evil\x1b[31m\u202e\n"
    write_saelens(tmp_path / name, unit_rows(256, 48))
    for form in ("full", "concise"):
        shown = cli("audit", ".", "--format", form, check=0).stdout
        assert "evil\\x1b[31m\\u202e\\x0a" in shown
    assert cli("audit", ".", "--format", "json", check=0).stdout.isascii()


def test_a_name_that_is_no_unicode_is_audited(cli, tmp_path):
    directory = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.mkdir(directory)
    np.savez(os.path.join(directory, "params.npz"), W=np.zeros((2, 2), np.float32))
    assert "\\udcff" in cli("audit", ".", "--expect", "any").stdout


def test_a_closed_pipe_is_no_traceback(tmp_path):
    for name in range(50):
        write_saelens(tmp_path / f"long-name-of-a-checkpoint-{name}", unit_rows(64, 8))
    command = f"{sys.executable} -m unitrow audit . --format json | head -c 10"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.stderr == ""


def test_an_interruption_exits_130(tmp_path):
    code = (
        "import os, signal, threading, unitrow.auditing as a\n"
        "def audit(*paths, **options): os.kill(os.getpid(), signal.SIGINT); threading.Event().wait(5)\n"
        "a.audit = audit\n"
        "from unitrow.cli import main; main(['audit', '.'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert signal.SIGINT == 2


def test_an_interruption_ends_a_scan_that_is_under_way(tmp_path):
    """The scan runs outside Python: without a look at signals, Ctrl-C would wait for terabytes."""
    shape = (1 << 14, 1 << 14)
    header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 1 << 30]}}).encode()
    with (tmp_path / "x.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + (1 << 30))
    code = (
        "import os, signal, sys, unitrow.auditing as a\n"
        "def progress(done, total): os.kill(os.getpid(), signal.SIGINT)\n"
        "try: [a.audit('.', jobs=1, progress=progress) for _ in range(99)]\n"
        "except KeyboardInterrupt: sys.exit(7)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (7, "")


def test_a_bug_of_ours_exits_4_and_says_so(tmp_path):
    code = (
        "import unitrow.auditing as a\n"
        "def audit(*paths, **options): raise ZeroDivisionError('oops')\n"
        "a.audit = audit\n"
        "from unitrow.cli import main; main(['audit', '.'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "oops" in done.stderr
    assert done.stderr.endswith("error: this is a bug in unitrow; the lines above say where\n")


def test_explain_knows_codes_and_offers_near_ones(cli):
    assert "N_NOT_UNIT" in cli("explain", "n_not_unit", check=0).stdout
    assert "unit-rounded" in cli("explain", "unit-rounded", check=0).stdout
    assert "N_NOT_UNIT" in cli("explain", check=0).stdout
    done = cli("explain", "N_NOTUNIT", check=2)
    assert "hint: did you mean N_NOT_UNIT" in done.stderr


def test_explain_knows_every_code_that_an_audit_can_raise():
    from unitrow import _native, explain
    from unitrow.findings import policy_codes

    raised = {code for code, _ in _native.codes()} | set(policy_codes())
    assert raised - set(explain.codes()) == set()


def test_inspect_shows_tensors_layout_and_reasons(cli, examples):
    file = examples / "minilm-layer3-unit" / "sae_weights.safetensors"
    shown = cli("inspect", file, check=0).stdout
    for words in (
        "safetensors",
        "W_dec      F32    1024×384",
        "layout: saelens_transcoder, because",
        "latent axis 0",
    ):
        assert words in shown


def test_inspect_writes_the_norms(cli, examples, tmp_path):
    file = examples / "minilm-layer3-unit" / "sae_weights.safetensors"
    cli("inspect", file, "--norms-out", "norms.npy", check=0)
    norms = np.load(tmp_path / "norms.npy")
    assert norms.shape == (1024,)
    assert np.abs(norms - 1).max() == pytest.approx(1.30e-7, rel=5e-3)


def test_inspect_lists_what_a_truncated_file_has_lost(cli, examples, tmp_path):
    whole = (examples / "minilm-layer3-unit" / "sae_weights.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-1])
    shown = cli("inspect", "cut.safetensors", check=1).stdout.splitlines()
    assert shown[0].endswith("4 of 5 tensors")
    assert [line for line in shown if "not whole" in line] == ["threshold  F32    1024, not whole"]
    assert any(f"1 of {len(whole)} bytes are missing" in line for line in shown)


def test_inspect_of_bad_input(cli, tmp_path):
    assert "expected a file, found a folder" in cli("inspect", ".", check=2).stderr
    assert "path does not exist: nowhere" in cli("inspect", "nowhere", check=2).stderr
    (tmp_path / "empty.safetensors").write_bytes(b"")
    assert "FS_EMPTY" in cli("inspect", "empty.safetensors", check=1).stdout


def test_demo_passes_its_own_check(cli, tmp_path):
    shown = cli("demo", check=0).stdout
    for words in ("1-as-trained", "unit-rounded", "ST_TRUNCATED_DATA", "free"):
        assert words in shown
    cli("demo", "--keep", "kept", check=0)
    assert len(os.listdir(tmp_path / "kept")) == 6


def test_stdout_that_is_full_closed_or_ascii_is_no_traceback(tmp_path):
    write_saelens(tmp_path / "données", unit_rows(64, 8))
    run = f"{sys.executable} -m unitrow audit ."
    for redirect, code, words in (
        ("> /dev/full", 2, "cannot write to stdout"),
        (">&-", 2, "stdout is closed"),
        ("2>&-", 0, ""),
    ):
        shell = ["sh", "-c", f"{run} {redirect}"]
        done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (code, True, False)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(["sh", "-c", run], cwd=tmp_path, capture_output=True, env=environment, check=False)
    assert (done.returncode, b"donn\\xe9es" in done.stdout) == (0, True)


def test_a_report_to_a_link_or_a_fifo_leaves_them_what_they_are(cli, tmp_path):
    write_saelens(tmp_path / "good", unit_rows(64, 8))
    (tmp_path / "real").write_text("old")
    os.symlink("real", tmp_path / "link")
    cli("audit", "good", "-o", "link", check=0)
    assert (tmp_path / "link").is_symlink()
    assert "1 checkpoint" in (tmp_path / "real").read_text()
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen(["cat", "fifo"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as reader:
        cli("audit", "good", "-o", "fifo", check=0)
        assert "1 checkpoint" in reader.communicate()[0]
    assert (tmp_path / "fifo").is_fifo()


def test_a_misspelt_filter_is_a_usage_error(cli, tmp_path):
    write_saelens(tmp_path / "good", unit_rows(64, 8))
    done = cli("audit", "good", "--select", "V_NANN", check=2)
    assert "no finding has a code that starts with 'V_NANN'" in done.stderr


def test_quiet_follows_the_severity_that_decides(cli, tmp_path):
    arrays_with_zero_rows = unit_rows(256, 48)
    arrays_with_zero_rows[0] = 0
    write_saelens(tmp_path / "warned", arrays_with_zero_rows)
    assert cli("audit", "-q", ".", check=0).stdout == ""
    assert cli("audit", "-q", ".", "--fail-on", "warn", check=1).stdout == "./warned\n"


def test_a_terminal_of_two_columns_is_wide_enough(examples):
    assert "unit" in ur.audit(examples).render("full", width=2)


@pytest.mark.parametrize(("save", "dtype"), [(np.savez_compressed, "<f4"), (np.savez, ">f4")])
def test_norms_of_compressed_and_big_endian_files_are_written(cli, tmp_path, save, dtype):
    decoder = unit_rows(256, 48).astype(dtype)
    save(tmp_path / "x.npz", W_dec=decoder, b_enc=np.zeros(256, dtype), b_dec=np.zeros(48, dtype))
    cli("inspect", "x.npz", "--norms-out", "norms.npy", check=0)
    norms = np.load(tmp_path / "norms.npy")
    np.testing.assert_allclose(norms, np.linalg.norm(decoder.astype(np.float64), axis=1), rtol=1e-15)
