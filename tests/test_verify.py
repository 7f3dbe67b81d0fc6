"""Files against manifests: one flipped bit is found, nothing leads out, no bytes raise."""

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitrow.identity import hash_paths, verify
from unitrow.identity.manifest import parse

SHA256SUM = shutil.which("sha256sum")
ODD = "odd\\\n\rname"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324  (git's own)


def flip(path, offset=0):
    """Flip one bit of a file, in place."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def codes(result):
    return sorted((finding.code, finding.severity) for finding in result.findings)


def statuses(result):
    return {one.file: one.status for one in result.files}


@pytest.fixture
def folder(tmp_path):
    """Three files, one of them with a name that needs care."""
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 5000)
    (folder / "sub" / "config.json").write_text("{}")
    (folder / ODD).write_text("odd")
    return folder


# Manifests.


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
@pytest.mark.parametrize("tag", [[], ["--tag"]])
def test_what_hash_writes_verify_reads_and_one_flipped_bit_is_found(cli, folder, algorithm, tag):
    cli("hash", "f", "--algorithm", algorithm, *tag, "-o", "SUMS", check=0)
    done = cli("verify", "f", "-c", "SUMS", check=0)
    assert sorted(done.stdout.splitlines()) == [
        "f/odd\\\\x0a\\x0dname: OK",
        "f/sub/config.json: OK",
        "f/weights.bin: OK",
    ]
    assert done.stderr == "3 files: 3 OK\n"
    flip(folder / "weights.bin", 777_777)
    done = cli("verify", "f", "-c", "SUMS", "--quiet", check=1)
    assert done.stdout.startswith("f/weights.bin: FAILED (expected ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == "3 files: 1 FAILED, 2 OK\n"


@pytest.mark.skipif(SHA256SUM is None, reason="no sha256sum on this machine")
@pytest.mark.parametrize("options", [[], ["--binary"], ["--tag"]])
def test_manifests_of_sha256sum_are_read(folder, options):
    names = ["weights.bin", "sub/config.json", ODD]
    lines = subprocess.run([SHA256SUM, *options, *names], cwd=folder, capture_output=True, check=True).stdout
    (folder / "SUMS").write_bytes(b"\xef\xbb\xbf# a comment\n\n" + lines)
    result = verify(folder, manifest=folder / "SUMS")
    assert (result.exit_code, result.counts) == (0, {"ok": 3})


def test_names_are_relative_to_the_current_folder_or_else_to_the_manifests(cli, folder):
    (folder / "SUMS").write_text(f"{sha256(b'{}')}  sub/config.json\n")
    assert "sub/config.json: OK\n" in cli("verify", "-c", "SUMS", cwd=folder, check=0).stdout
    assert "f/sub/config.json: OK\n" in cli("verify", "-c", "f/SUMS", check=0).stdout


def test_absent_and_unlisted_files_are_warned_of_or_fail_on_request(cli, folder):
    (folder / "SUMS").write_text(f"{sha256(b'{}')}  sub/config.json\n{'0' * 64}  gone.bin\n")
    done = cli("verify", "f", "-c", "f/SUMS", "--format", "json", check=0)
    report = json.loads(done.stdout)
    assert done.stdout.isascii()
    assert report["summary"]["by_status"] == {"extra": 2, "missing": 1, "ok": 1}
    assert [(one["code"], one["severity"], one["layer"]) for one in report["findings"]] == [
        ("H_MISSING", "warn", "identity"),
        ("H_EXTRA", "note", "identity"),
        ("H_EXTRA", "note", "identity"),
    ]
    done = cli("verify", "f", "-c", "f/SUMS", "--fail-on-missing-files", check=1)
    assert "f/gone.bin: MISSING\n" in done.stdout
    assert "weights" not in done.stdout
    done = cli("verify", "f", "-c", "f/SUMS", "--fail-on-extra-files", check=1)
    assert "f/weights.bin: EXTRA\n" in done.stdout


@pytest.mark.parametrize(
    "name",
    ["/etc/hostname", "../secret", "a/../../secret", "..\\secret", "C:\\secret", "\\\\host\\share", "sub/.."],
)
@pytest.mark.parametrize("form", ["sums", "bagit", "statement"])
def test_a_name_that_leads_out_of_the_folder_is_never_opened(tmp_path, monkeypatch, name, form):
    from unitrow import _native

    folder = tmp_path / "f"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    digest = sha256(b"secret")
    if form == "statement":
        manifest = tmp_path / "m.json"
        resource = {"name": name, "algorithm": "sha256", "digest": digest}
        manifest.write_text(json.dumps(statement([resource])))
    else:
        manifest = tmp_path / ("manifest-sha256.txt" if form == "bagit" else "SUMS")
        manifest.write_text(f"{digest}  {name}\n")
    opened = []
    monkeypatch.setattr(_native, "digest_files", lambda requests, _jobs: opened.extend(requests) or [])
    result = verify(folder, manifest=manifest)
    assert (opened, codes(result), result.exit_code) == ([], [("H_PATH", "fail")], 1)


@pytest.mark.parametrize(
    "line",
    [
        b"not a manifest",
        b"d41d8cd98f00b204e9800998ecf8427e  md5",
        b"MD5 (x) = d41d8cd98f00b204e9800998ecf8427e",
        b"da39a3ee5e6b4b0d3255bfef95601890afd80709  sha1-or-git",
        b"\\" + b"0" * 64 + b"  bad\\escape",
        b"0" * 63 + b"  short",
    ],
)
def test_a_line_that_cannot_be_used_never_looks_verified(folder, line):
    (folder / "SUMS").write_bytes(sha256(b"{}").encode() + b"  sub/config.json\n" + line + b"\n")
    result = verify(folder, manifest=folder / "SUMS")
    assert ("H_MANIFEST", "unreadable") in codes(result)
    assert result.exit_code == 3


def test_a_file_that_is_no_manifest_is_named_once(cli, folder):
    """One line of output for each line of a binary was no help."""
    (folder / "binary").write_bytes(b"\x7fELF\0\n" * 1000)
    (folder / "text").write_text("no digest\n" * 1000)
    shown = cli("verify", "-c", "binary", check=3, cwd=folder).stderr
    assert "error: binary: binary data, no manifest" in shown
    shown = cli("verify", "-c", "text", check=3, cwd=folder).stderr
    assert "line 20: neither" in shown
    assert "line 21:" not in shown
    assert "error: text: and 980 more H_MANIFEST" in shown
    found = json.loads(cli("verify", "-c", "text", "--format", "json", check=3, cwd=folder).stdout)
    assert found["findings"][20]["message"] == "and 980 more H_MANIFEST"


def test_repeated_contradicting_and_mixed_lines_are_reported(folder):
    good = f"{sha256(b'{}')}  sub/config.json\n"
    (folder / "SUMS").write_text(good + good.replace("sub/", "./sub//"))
    result = verify(folder, manifest=folder / "SUMS")
    assert ("H_MANIFEST", "note") in codes(result)
    assert result.exit_code == 0
    (folder / "SUMS").write_text(good + "0" * 64 + "  sub/config.json\n")
    result = verify(folder, manifest=folder / "SUMS")
    assert ("H_MANIFEST", "fail") in codes(result)
    (folder / "SUMS").write_text(good + f"BLAKE3 (weights.bin) = {'0' * 64}\n")
    result = verify(folder, manifest=folder / "SUMS")
    assert any("mixes algorithms" in finding.message for finding in result.findings)


@pytest.mark.usefixtures("folder")
def test_nothing_verified_exits_3_and_a_missing_manifest_exits_2(cli, tmp_path):
    (tmp_path / "EMPTY").write_text("")
    assert "no file with a digest that can be compared" in cli("verify", "f", "-c", "EMPTY", check=3).stderr
    assert "no download left anything to compare with" in cli("verify", "f", check=3).stderr
    assert "path does not exist: NONE" in cli("verify", "f", "-c", "NONE", check=2).stderr
    assert "path does not exist: nowhere" in cli("verify", "nowhere", check=2).stderr
    assert "nothing to verify" in cli("verify", check=2).stderr
    os.mkfifo(tmp_path / "FIFO")
    assert "not a regular file" in cli("verify", "f", "-c", "FIFO", check=2).stderr


def test_a_second_manifest_is_refused(cli, folder, tmp_path):
    """The first of two was passed over without a word."""
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(hash_paths(folder).lines())
    done = cli("verify", folder, "-c", tmp_path / "first", "-c", tmp_path / "second", check=2)
    assert "more than one manifest" in done.stderr


def test_what_cannot_be_read_is_not_verified(folder):
    os.mkfifo(folder / "fifo")
    (folder / "broken").symlink_to("nowhere")
    lines = "".join(f"{'0' * 64}  {name}\n" for name in ("fifo", "broken"))
    (folder / "SUMS").write_text(lines + f"{sha256(b'{}')}  sub/config.json\n")
    result = verify(folder, manifest=folder / "SUMS")
    assert {("FS_NOT_REGULAR", "unreadable"), ("FS_BROKEN_LINK", "unreadable")} < set(codes(result))
    assert result.exit_code == 3


def test_a_file_that_changes_while_it_is_read_is_unreadable(tmp_path):
    path = tmp_path / "growing"
    path.write_bytes(bytes(64 << 20))
    stop = threading.Event()

    def grow():
        with open(path, "ab") as file:
            while not stop.is_set():
                file.write(b"x")
                file.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        found = hash_paths(path).findings
    finally:
        stop.set()
        writer.join()
    assert [(finding.code, finding.severity) for finding in found] == [("FS_CHANGED", "unreadable")]


def test_an_interruption_ends_a_long_hash_at_once(tmp_path):
    path = tmp_path / "long"
    path.touch()
    os.truncate(path, 1 << 40)
    command = [sys.executable, "-m", "unitrow", "hash", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        descriptors = f"/proc/{process.pid}/fd"
        while not any(
            os.path.realpath(f"{descriptors}/{one}") == str(path) for one in os.listdir(descriptors)
        ):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "interrupted\n")
        assert process.returncode == 130


# Bags.


def make_bag(folder, payload):
    (folder / "data").mkdir(parents=True)
    (folder / "bagit.txt").write_text("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    for name, data in payload.items():
        (folder / "data" / name).write_bytes(data)
    escape = {"%": "%25", "\n": "%0A"}
    lines = [
        f"{sha256(data)}  data/{''.join(escape.get(char, char) for char in name)}\n"
        for name, data in payload.items()
    ]
    (folder / "manifest-sha256.txt").write_text("".join(lines))
    tags = "".join(f"{sha256((folder / n).read_bytes())} {n}\n" for n in ("bagit.txt", "manifest-sha256.txt"))
    (folder / "tagmanifest-sha256.txt").write_text(tags)
    return folder


def test_a_bag_is_verified_with_its_tags_and_finds_damage_and_strangers(tmp_path):
    bag = make_bag(tmp_path / "bag", {"50%\nx": b"1", "y": b"2"})
    result = verify(manifest=bag)
    assert (result.exit_code, result.counts) == (0, {"ok": 4})
    flip(bag / "data" / "y")
    (bag / "data" / "stranger").write_text("?")
    result = verify(manifest=bag)
    assert codes(result) == [("H_EXTRA", "note"), ("H_MISMATCH", "fail")]
    flip(bag / "bagit.txt")
    assert codes(verify(manifest=bag)).count(("H_MISMATCH", "fail")) == 2


def test_a_folder_that_is_no_bag_or_has_no_sha256_is_not_verified(tmp_path):
    (tmp_path / "f").mkdir()
    assert verify(manifest=tmp_path / "f").exit_code == 3
    (tmp_path / "f" / "bagit.txt").write_text("BagIt-Version: 1.0\n")
    assert verify(manifest=tmp_path / "f").exit_code == 3


# Model signing.


def statement(resources, **serialization):
    root = hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in resources)).hexdigest()
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", **serialization},
            "resources": resources,
        },
    }


def bundle(payload):
    envelope = {
        "payload": base64.b64encode(json.dumps(payload).encode()).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"sig": "AAAA", "keyid": ""}],
    }
    return {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": envelope}


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_statement_is_verified_and_says_that_no_signature_was_checked(cli, tmp_path, folder, wrapped):
    (folder / ODD).unlink()
    cli("hash", "f", "--format", "model-signing", "-o", "model.json", check=0)
    if wrapped:
        payload = json.loads((tmp_path / "model.json").read_text())
        (tmp_path / "model.json").write_text(json.dumps(bundle(payload)))
    done = cli("verify", "f", "-c", "model.json", check=0)
    assert "no signature was checked" in done.stderr
    flip(folder / "weights.bin")
    report = json.loads(cli("verify", "f", "-c", "model.json", "--format", "json", check=1).stdout)
    assert report["summary"]["signature_checked"] is False
    assert [one["code"] for one in report["findings"]] == ["H_MISMATCH"]


def test_a_statement_whose_subject_is_not_its_resources_fails(folder):
    text = statement([{"name": "sub/config.json", "algorithm": "sha256", "digest": sha256(b"{}")}])
    text["subject"][0]["digest"]["sha256"] = "0" * 64
    (folder / "m.json").write_text(json.dumps(text))
    result = verify(folder, manifest=folder / "m.json")
    assert ("H_MANIFEST", "fail") in codes(result)
    assert result.exit_code == 1


def test_shards_are_verified_and_must_cover_the_file(folder):
    data = (folder / "weights.bin").read_bytes()
    cuts = [(0, 1_000_000), (1_000_000, len(data))]
    resources = [
        {"name": f"weights.bin:{a}:{b}", "algorithm": "sha256", "digest": sha256(data[a:b])} for a, b in cuts
    ]
    (folder / "m.json").write_text(json.dumps(statement(resources, method="shards", shard_size=1_000_000)))
    assert verify(folder, manifest=folder / "m.json").counts["ok"] == 2
    flip(folder / "weights.bin", 1_100_000)
    [found] = [one for one in verify(folder, manifest=folder / "m.json").findings if one.code == "H_MISMATCH"]
    assert (found.byte_offset, found.length) == (1_000_000, len(data) - 1_000_000)
    flip(folder / "weights.bin", 1_100_000)
    with open(folder / "weights.bin", "ab") as file:
        file.write(b"appended")
    assert verify(folder, manifest=folder / "m.json").exit_code == 1
    (folder / "m.json").write_text(json.dumps(statement(resources[1:], method="shards")))
    assert any(
        "covers bytes 0 to 1000000" in one.message
        for one in verify(folder, manifest=folder / "m.json").findings
    )


def test_subjects_of_other_predicates_are_files(folder):
    text = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "sub/config.json", "digest": {"sha256": sha256(b"{}"), "sha512": "0" * 128}}],
        "predicateType": "https://slsa.dev/provenance/v1",
    }
    (folder / "m.json").write_text(json.dumps(text))
    assert verify(folder, manifest=folder / "m.json").counts["ok"] == 1


# Arbitrary bytes.

MANIFEST_NAMES = st.sampled_from(["SUMS", "b3sums", "manifest-sha256.txt", "manifest-md5.txt", "m.json"])
FIELDS = ["_type", "subject", "name", "digest", "sha256", "predicateType", "predicate", "serialization"]
FIELDS += ["method", "resources", "algorithm", "dsseEnvelope", "payload", "ignore_paths"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["0" * 64, "shards", "x:0:1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
        )
    ),
    max_leaves=30,
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()), MANIFEST_NAMES)
def test_no_manifest_makes_the_parser_raise(data, name):
    reference = parse(data, name)
    for entry in reference.entries:
        assert not entry.name.startswith("/")
        assert ".." not in entry.name.split("/")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)))
def test_every_name_survives_the_line_and_back(names):
    from unitrow.identity.hashing import Hashed

    digests = {f"x{name}".replace("..", ".").replace("/", "-"): sha256(name.encode()) for name in names}
    digests = {name: digest for name, digest in digests.items() if ".." not in name}
    for tag in (False, True):
        read = parse(Hashed("sha256", digests).lines(tag=tag), "SUMS").entries
        assert {entry.name: entry.digest for entry in read} == digests
    read = parse(Hashed("sha256", digests).bagit(), "manifest-sha256.txt").entries
    assert {entry.name.removeprefix("data/"): entry.digest for entry in read} == digests


@pytest.mark.parametrize("data", [b"{" * 100_000, b'{"a":' * 100_000, b'{"_type": ' + b"9" * 10_000 + b"}"])
def test_deep_and_long_json_is_refused_in_words(data):
    assert [finding.severity for finding in parse(data, "m.json").findings] == ["unreadable"]
