"""Folders that huggingface_hub's own code downloaded, from a server on this machine."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading

import pytest

import unitrow as ur
from checkpoints import saelens_arrays, safetensors_bytes, unit_rows
from unitrow.identity import verify

pytestmark = pytest.mark.interop

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = safetensors_bytes(saelens_arrays(unit_rows(256, 48)))
FILES = {"layer_3/sae_weights.safetensors": WEIGHTS, "README.md": b"# SAEs\n"}

DOWNLOAD = """
import sys
from huggingface_hub import hf_hub_download
where, folder, *names = sys.argv[1:]
for name in names:
    hf_hub_download("lab/sae", name, **{where: folder})
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """What the client asks of huggingface.co for one public model: a file in LFS, and one that git holds."""

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, *, with_body):
        name = self.path.partition("/resolve/main/")[2] or self.path.partition(f"/resolve/{COMMIT}/")[2]
        data = FILES.get(name)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        if name.endswith(".safetensors"):
            self.send_header("X-Linked-ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(data)))
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
        self.send_header("ETag", f'"{blob.hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, *_arguments):
        pass


@pytest.fixture(params=["cache_dir", "local_dir"])
def downloaded(request, tmp_path):
    """A folder that the library filled: its cache, or a folder of the user's."""
    pytest.importorskip("huggingface_hub")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = tmp_path / "downloaded"
    environment = {
        **{
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
        },
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    try:
        subprocess.run(
            [sys.executable, "-c", DOWNLOAD, request.param, str(folder), *FILES], env=environment, check=True
        )
    finally:
        server.shutdown()
        server.server_close()
    return folder


def of_weights(folder):
    (path,) = folder.rglob("*.safetensors")
    return path.resolve()


def test_a_download_is_verified_and_one_flipped_byte_is_found(downloaded):
    result = verify(downloaded)
    assert (result.exit_code, result.findings) == (0, [])
    assert sorted(one.algorithm for one in result.files) == ["git-sha1", "sha256"]
    path = of_weights(downloaded)
    for offset in (0, len(WEIGHTS) // 2, len(WEIGHTS) - 1):
        path.write_bytes(WEIGHTS[:offset] + bytes([WEIGHTS[offset] ^ 1]) + WEIGHTS[offset + 1 :])
        result = verify(downloaded)
        assert (result.exit_code, [found.code for found in result.findings]) == (1, ["H_MISMATCH"])
    path.write_bytes(WEIGHTS)
    assert verify(downloaded).exit_code == 0


def test_a_download_is_audited_with_the_digest_it_was_named_by(downloaded):
    report = ur.audit(downloaded, hash="sha256", expect="any")
    assert report.exit_code == 0
    digests = [found["sha256"] for one in report.checkpoints for found in one["digests"].values()]
    assert digests == [hashlib.sha256(WEIGHTS).hexdigest()]
