"""Downloads against what they left beside the files, without a network: blob names, metadata, LFS."""

import os

import pytest

from test_verify import codes, flip, git_sha1, sha256, statuses
from unitrow.identity import verify

COMMIT = "b5ad3f1c5e8d4c3ba0e1d2f3a4b5c6d7e8f90a1b"
WEIGHTS = bytes(range(256)) * 9000
CONFIG = b'{"d_sae": 3072}'


@pytest.fixture
def hub(tmp_path):
    """A Hugging Face cache of one repository: LFS files are named by SHA-256, small ones by git's SHA-1."""
    repository = tmp_path / "hub" / "models--lab--sae"
    snapshot = repository / "snapshots" / COMMIT / "layer_3"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / ".no_exist" / COMMIT).mkdir(parents=True)
    (repository / ".no_exist" / COMMIT / "adapter_config.json").touch()
    for name, data, etag in (
        ("weights.safetensors", WEIGHTS, sha256(WEIGHTS)),
        ("config.json", CONFIG, git_sha1(CONFIG)),
    ):
        (repository / "blobs" / etag).write_bytes(data)
        (snapshot / name).symlink_to(f"../../../blobs/{etag}")
    return repository


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    "where", ["", "hub", "hub/models--lab--sae", f"hub/models--lab--sae/snapshots/{COMMIT}"]
)
def test_a_hub_cache_is_verified_from_any_of_its_folders(tmp_path, where):
    result = verify(tmp_path / where)
    assert (result.exit_code, result.findings) == (0, [])
    assert {os.path.basename(file) for file in statuses(result)} == {"weights.safetensors", "config.json"}
    assert sorted(one.algorithm for one in result.files) == ["git-sha1", "sha256"]


@pytest.mark.parametrize("offset", [0, 1_000_000, len(WEIGHTS) - 1])
def test_one_flipped_bit_in_a_blob_is_found(cli, hub, offset):
    flip(hub / "blobs" / sha256(WEIGHTS), offset)
    done = cli("verify", "hub", check=1)
    name = f"hub/models--lab--sae/snapshots/{COMMIT}/layer_3/weights.safetensors"
    assert f"{name}: FAILED (expected sha256 {sha256(WEIGHTS)}, found sha256 " in done.stdout
    assert done.stderr == "2 files: 1 FAILED, 1 OK\n"
    assert cli("verify", name, check=1).stdout.startswith(f"{name}: FAILED")
    assert cli("verify", f"hub/models--lab--sae/snapshots/{COMMIT}/layer_3/config.json", check=0).stdout


def test_blobs_that_no_snapshot_names_are_verified_too(hub):
    (hub / "blobs" / sha256(b"old")).write_bytes(b"old?")
    result = verify(hub)
    assert codes(result) == [("H_MISMATCH", "fail")]
    assert result.findings[0].file.endswith(sha256(b"old"))


def test_a_deleted_blob_is_missing_and_a_copy_is_vouched_for_by_nothing(hub):
    snapshot = hub / "snapshots" / COMMIT / "layer_3"
    (hub / "blobs" / sha256(WEIGHTS)).unlink()
    (snapshot / "notes.txt").write_text("mine")
    assert codes(verify(hub)) == [("H_EXTRA", "note"), ("H_MISSING", "warn")]
    assert verify(hub).exit_code == 0
    assert verify(hub, fail_on_missing=True).exit_code == 1
    assert verify(hub, fail_on_extra=True).exit_code == 1


def test_an_unfinished_download_is_no_pass(hub):
    (hub / "blobs" / f"{sha256(WEIGHTS)}.incomplete").write_bytes(WEIGHTS[:100])
    assert codes(verify(hub)) == [("FS_PARTIAL_DOWNLOAD", "warn")]
    assert verify(hub).exit_code == 0
    (hub / "blobs" / f"{sha256(b'other')}.abc123.incomplete").write_bytes(b"oth")
    assert codes(verify(hub)) == [("FS_PARTIAL_DOWNLOAD", "fail"), ("FS_PARTIAL_DOWNLOAD", "warn")]
    assert verify(hub).exit_code == 1


def test_a_cache_of_nothing_but_links_to_nothing_is_not_verified(hub):
    for blob in (hub / "blobs").iterdir():
        blob.unlink()
    assert verify(hub).exit_code == 3


def test_a_folder_that_happens_to_be_called_blobs_is_no_cache(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / ("0" * 64)).write_text("x")
    assert verify(tmp_path).files == []


# `hf download --local-dir`.


@pytest.fixture
def local(tmp_path):
    """A download with its metadata: commit, digest and time, a line each."""
    folder = tmp_path / "local"
    notes = folder / ".cache" / "huggingface" / "download"
    for name, data, etag in (
        ("layer_3/weights.safetensors", WEIGHTS, sha256(WEIGHTS)),
        ("config.json", CONFIG, git_sha1(CONFIG)),
    ):
        for path in (folder / name, notes / f"{name}.metadata"):
            path.parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        (notes / f"{name}.metadata").write_text(f"{COMMIT}\n{etag}\n1765432100.25\n")
        (notes / f"{name}.lock").touch()
    (folder / ".cache" / "huggingface" / ".gitignore").write_text("*")
    return folder


def test_a_local_dir_is_verified_and_one_flipped_bit_is_found(cli, local):
    done = cli("verify", "local", check=0)
    assert done.stdout == "local/config.json: OK\nlocal/layer_3/weights.safetensors: OK\n"
    flip(local / "layer_3" / "weights.safetensors", 500_000)
    assert cli("verify", "local", "-q", check=1).stdout.startswith(
        "local/layer_3/weights.safetensors: FAILED"
    )
    assert statuses(verify(local / "layer_3")) == {str(local / "layer_3" / "weights.safetensors"): "mismatch"}
    assert statuses(verify(local / "config.json")) == {str(local / "config.json"): "ok"}
    assert verify(local.parent).exit_code == 1


def test_links_into_a_local_dir_are_compared_with_its_metadata(local, tmp_path):
    (tmp_path / "linked").mkdir()
    link = tmp_path / "linked" / "w.safetensors"
    link.symlink_to(local / "layer_3" / "weights.safetensors")
    assert statuses(verify(tmp_path / "linked")) == {str(link): "ok"}
    flip(local / "layer_3" / "weights.safetensors", 500_000)
    result = verify(tmp_path / "linked")
    assert (result.exit_code, statuses(result)) == (1, {str(link): "mismatch"})


def test_missing_and_extra_files_of_a_local_dir(local):
    (local / "config.json").unlink()
    (local / "notes.txt").write_text("mine")
    assert codes(verify(local)) == [("H_EXTRA", "note"), ("H_MISSING", "warn")]


@pytest.mark.parametrize("text", ["", "x", f"{COMMIT}\nno-digest\n1\n", "\xff" * 5000])
def test_damaged_metadata_vouches_for_nothing(local, text):
    notes = local / ".cache" / "huggingface" / "download"
    (notes / "config.json.metadata").write_text(text)
    result = verify(local)
    assert statuses(result)[str(local / "config.json")] == "extra"
    assert result.counts["ok"] == 1


def test_an_unfinished_local_download_is_no_pass(local):
    notes = local / ".cache" / "huggingface" / "download"
    (notes / "layer_3" / f"Zm9v.{sha256(b'new')}.incomplete").write_bytes(b"ne")
    assert codes(verify(local)) == [("FS_PARTIAL_DOWNLOAD", "fail")]
    (notes / "layer_3" / f"Zm9v.{sha256(b'new')}.incomplete").unlink()
    (notes / "layer_3" / f"Zm9v.{sha256(WEIGHTS)}.0a1b2c3d.incomplete").write_bytes(b"ne")
    assert codes(verify(local)) == [("FS_PARTIAL_DOWNLOAD", "warn")]


@pytest.mark.interop
def test_what_huggingface_hub_itself_lays_out_is_verified(tmp_path):
    hub = pytest.importorskip("huggingface_hub.file_download")
    local_folder = pytest.importorskip("huggingface_hub._local_folder")
    etag = sha256(WEIGHTS)
    repository = tmp_path / "hub" / hub.repo_folder_name(repo_id="lab/sae", repo_type="model")
    blob, link = repository / "blobs" / etag, repository / "snapshots" / COMMIT / "w.safetensors"
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    blob.write_bytes(WEIGHTS)
    hub._create_symlink(str(blob), str(link), new_blob=True)
    local = tmp_path / "local"
    local.mkdir()
    file = local_folder.get_local_download_paths(local, "w.safetensors").file_path
    file.write_bytes(WEIGHTS)
    local_folder.write_download_metadata(local, "w.safetensors", COMMIT, etag)
    for folder, damaged in ((repository, blob), (local, file)):
        assert verify(folder).exit_code == 0
        flip(damaged, 4711)
        assert codes(verify(folder)) == [("H_MISMATCH", "fail")]


# Git LFS.


def pointer(data):
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(data)}\nsize {len(data)}\n"


def test_a_pointer_in_place_of_a_file_fails_and_says_what_is_wanted(tmp_path):
    (tmp_path / "weights.safetensors").write_text(pointer(WEIGHTS))
    result = verify(tmp_path)
    assert codes(result) == [("FS_LFS_POINTER", "fail")]
    assert result.exit_code == 1
    [finding] = result.findings
    assert finding.expected == f"{len(WEIGHTS)} bytes with SHA-256 {sha256(WEIGHTS)}"
    assert "git lfs pull" in finding.hint


def test_the_object_of_a_pointer_is_verified_where_it_was_fetched(tmp_path):
    oid = sha256(WEIGHTS)
    stored = tmp_path / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
    stored.parent.mkdir(parents=True)
    stored.write_bytes(WEIGHTS)
    (tmp_path / "saes").mkdir()
    (tmp_path / "saes" / "weights.safetensors").write_text(pointer(WEIGHTS))
    for where in (tmp_path, tmp_path / "saes", tmp_path / "saes" / "weights.safetensors"):
        result = verify(where)
        assert codes(result) == [("FS_LFS_POINTER", "fail")]
        assert "git lfs checkout" in result.findings[0].hint
        assert result.counts == {"mismatch": 1, "ok": 1}
    flip(stored, 12)
    assert codes(verify(tmp_path)) == [("FS_LFS_POINTER", "fail"), ("H_MISMATCH", "fail")]


def test_a_folder_of_pointers_is_a_manifest(tmp_path):
    for name in ("pointers", "files"):
        (tmp_path / name).mkdir()
    (tmp_path / "pointers" / "weights.safetensors").write_text(pointer(WEIGHTS))
    (tmp_path / "files" / "weights.safetensors").write_bytes(WEIGHTS)
    result = verify(tmp_path / "files", manifest=tmp_path / "pointers")
    assert (result.exit_code, result.counts) == (0, {"ok": 1})
    (tmp_path / "files" / "weights.safetensors").write_bytes(WEIGHTS[:-1])
    [finding] = verify(tmp_path / "files", manifest=tmp_path / "pointers").findings
    assert (finding.code, finding.found) == ("H_MISMATCH", f"{len(WEIGHTS) - 1} bytes")


def test_files_of_a_folder_given_by_a_relative_path_are_named_once(tmp_path, cli):
    """A pointer below `saes` was called saes/saes/weights.safetensors."""
    (tmp_path / "saes").mkdir()
    (tmp_path / "saes" / "weights.safetensors").write_text(pointer(WEIGHTS))
    done = cli("verify", "saes", check=1)
    assert done.stdout == "saes/weights.safetensors: FAILED (a git-lfs pointer stands in for the file)\n"
