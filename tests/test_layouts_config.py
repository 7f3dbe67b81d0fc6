"""Configuration files are text that anyone may have written."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from layouts_builder import D_SAE, codes, recognise_one, sae, saelens_config, tensors
from test_layouts import SPARSIFY, TRACER, TRACER_CONFIG
from unitrow.layouts import FileMeta, Folder, recognise
from unitrow.layouts.config import (
    JSON_LIMIT_BYTES,
    YAML_LIMIT_BYTES,
    Config,
    as_count,
    as_flag,
    excerpt,
    major_version,
    read_json,
    read_yaml,
)

MISMATCH = "L_CONFIG_MISMATCH"


def folder(data):
    return Folder("run", read_text=lambda _name: data)


def json_of(text):
    return read_json(folder(text if isinstance(text, bytes) else text.encode()), "cfg.json")


def yaml_of(text):
    return read_yaml(folder(text if isinstance(text, bytes) else text.encode()), "config.yaml")


BILLION_LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
)

BAD_JSON = {
    "empty": b"",
    "cut": b'{"d_in": 8, "d_s',
    "list": b"[1, 2]",
    "number": b"17",
    "null": b"null",
    "nested lists": b'{"a":' + b"[" * 100_000,
    "nested mappings": b'{"a":' * 100_000,
    "long integer": b'{"d_in": ' + b"9" * 10_000 + b"}",
    "latin-1": b'{"d_in": "\xe9"}',
    "utf-16": json.dumps(saelens_config()).encode("utf-16"),
    "too large": b'{"a": "' + b"x" * JSON_LIMIT_BYTES + b'"}',
    "single quotes": b"{'d_in': 8}",
    "two objects": b"{} {}",
    "zip": b"PK\x03\x04" + bytes(100),
}

BAD_YAML = {
    "empty": b"",
    "scalar": b"just words",
    "list": b"- 1\n- 2\n",
    "cut": b"a: [1, 2",
    "tab": b"a:\n\t- b",
    "alias bomb": BILLION_LAUGHS.encode(),
    "anchor": b"a: &x 1\n",
    "nested lists": b"a: " + b"[" * 100_000,
    "nested blocks": b"\n".join(b" " * i + b"a:" for i in range(300)),
    "two documents": b"a: 1\n---\nb: 2\n",
    "collection as a key": b"? [a, b]\n: c\n",
    "not utf-8": b"a: \xff\xfe\xfd",
    "control character": b"a: \x00\x07",
    "too large": b"a: " + b"x" * YAML_LIMIT_BYTES,
}

GOOD_YAML = {
    "python object": b"a: !!python/object/apply:os.system ['true']\n",
    "unknown tag": b"a: !thing 1\n",
    "impossible date": b"a: 2026-99-99\n",
    "endless number": b"a: " + b"9" * 10_000,
    "sexagesimal": b"a: 190:20:30\n",
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON)
def test_bad_json_is_a_finding_and_the_weights_are_still_planned(text):
    config = json_of(text)
    assert config.present
    assert config.problem
    assert config.values == {}
    for files in ({"sae_weights.safetensors": sae()}, {"sae.safetensors": SPARSIFY}):
        match = recognise_one(files, {"cfg.json": text})
        assert codes(match) == [MISMATCH]
        assert match.findings[0].file == "cfg.json"
        assert len(match.findings[0].message) < 200
        assert match.decoders[0].latent_axis == 0
        assert match.expected == "unknown"


@pytest.mark.parametrize("text", BAD_YAML.values(), ids=BAD_YAML)
def test_bad_yaml_is_a_finding_and_the_weights_are_still_planned(text):
    config = yaml_of(text)
    assert config.problem
    assert config.values == {}
    match = recognise_one({"layer_0.safetensors": TRACER}, {"config.yaml": text})
    assert (match.layout, codes(match), match.decoders[0].latent_axis) == ("circuit_tracer", [MISMATCH], 0)


@pytest.mark.parametrize("text", GOOD_YAML.values(), ids=GOOD_YAML)
def test_yaml_scalars_stay_text(text):
    config = yaml_of(text)
    assert config.problem is None
    assert all(isinstance(value, str | list) for value in config.values.values())


def test_yaml_values():
    config = yaml_of("a: 1\nb:\n- x\n- y: [true]\n'c d': |\n  text\n")
    assert config.values == {"a": "1", "b": ["x", {"y": ["true"]}], "c d": "text\n"}


def test_yaml_without_its_fast_parser(monkeypatch):
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert yaml_of(TRACER_CONFIG).values["model_kind"] == "transcoder_set"
    for text in BAD_YAML.values():
        assert yaml_of(text).problem


def test_duplicate_keys():
    config = json_of('{"d_in": 1, "d_in": 8, "metadata": {"x": 1, "x": 2, "x": 3}}')
    assert config.duplicates == ("x", "d_in")
    assert config.values["d_in"] == 8
    assert yaml_of("a: 1\na: 2\nb: {c: 1, c: 2}\n").duplicates == ("a", "c")
    text = json.dumps(saelens_config())[:-1] + ', "d_sae": 32}'
    match = recognise_one({"sae_weights.safetensors": sae()}, {"cfg.json": text})
    assert codes(match) == [MISMATCH]
    assert "d_sae" in match.findings[0].message


def test_byte_order_mark_is_accepted():
    assert json_of(b"\xef\xbb\xbf{}").problem is None


def test_not_a_number_is_no_size():
    match = recognise_one(
        {"sae_weights.safetensors": sae()}, {"cfg.json": '{"d_in": NaN, "d_sae": Infinity, "lr": NaN}'}
    )
    assert codes(match) == [MISMATCH, MISMATCH]


@pytest.mark.parametrize("value", [None, 3, [], {}, True, "", "\x1b[31m", "jumprelu\n", "x" * 100_000])
def test_architecture_of_any_kind(value):
    match = recognise_one({"sae_weights.safetensors": sae()}, {"cfg.json": saelens_config(value)})
    assert match.layout in {"saelens", "saelens_transcoder"}
    assert all(len(finding.message) < 300 for finding in match.findings)
    assert all(finding.message.isprintable() for finding in match.findings)


@pytest.mark.parametrize("metadata", [None, [], 3, "x", {"sae_lens_training_version": {"a": 1}}])
def test_metadata_of_any_kind(metadata):
    match = recognise_one({"sae_weights.safetensors": sae()}, {"cfg.json": saelens_config(metadata=metadata)})
    assert match.expected == "unknown"


@pytest.mark.parametrize("value", [[], {}, "x", 3, [[]], None])
def test_sparsify_configuration_of_any_kind(value):
    keys = ["d_in", "num_latents", "expansion_factor", "transcode", "normalize_decoder", "skip_connection"]
    for key in keys:
        match = recognise_one(
            {"sae.safetensors": SPARSIFY}, {"cfg.json": {"expansion_factor": 4, key: value}}
        )
        assert match.layout == "sparsify"


@pytest.mark.parametrize("scan", ["[a, [b]]", "{a: b}", "''", "~", "[]"])
def test_circuit_tracer_scan_of_any_kind(scan):
    match = recognise_one({"layer_0.safetensors": TRACER}, {"config.yaml": f"scan: {scan}\n"})
    assert match.expected == "unknown"


def test_file_that_may_not_be_read():
    def refuse(_name):
        raise PermissionError(13, "Permission denied")

    names = frozenset({"sae_weights.safetensors", "cfg.json"})
    meta = FileMeta("sae_weights.safetensors", "safetensors", ())
    config = read_json(Folder("run", names, refuse), "cfg.json")
    assert config.problem == "it may not be read"
    assert config.unread == "FS_PERMISSION"
    assert len(recognise(Folder("run", names, refuse), [meta])) == 1


def test_configuration_is_read_once_for_a_folder_and_never_looked_for_in_vain():
    asked = []

    def read(name):
        asked.append(name)
        return TRACER_CONFIG.encode()

    files = [f"layer_{i}.safetensors" for i in range(5)]
    metas = [FileMeta(name, "safetensors", tensors(TRACER)) for name in files]
    recognise(Folder("run", frozenset({*files, "config.yaml"}), read), metas)
    assert asked == ["config.yaml"]


def test_counts():
    assert [as_count(value) for value in (8, 8.0, "8", D_SAE)] == [8, 8, 8, D_SAE]
    for value in (
        0,
        -1,
        8.5,
        True,
        None,
        "eight",
        "-8",
        "8.0",
        "\u0668",
        [8],
        2**53,
        float("inf"),
        float("nan"),
    ):
        assert as_count(value) is None


def test_flags():
    assert [as_flag(value) for value in (True, "true", "Yes", "on")] == [True] * 4
    assert [as_flag(value) for value in (False, "false", "NO", "off")] == [False] * 4
    assert [as_flag(value) for value in (None, 1, 0, "", "maybe", [])] == [None] * 6


def test_versions():
    assert [major_version(value) for value in ("6.54.12", "6", "v2.1", "10.0.0rc1")] == [6, 6, 2, 10]
    for value in (None, 6, "", "six", "dev", "6a", ".6", "9" * 5000):
        assert major_version(value) is None


def test_excerpts_are_short_and_plain():
    for value in ("x" * 999, "\x1b[2J\u202e", 10**5000, {"a": 1}, [1], None, 1.5, True):
        text = excerpt(value)
        assert text.isascii()
        assert text.isprintable()
        assert len(text) < 100


def test_an_absent_file_is_not_a_problem():
    assert read_json(folder(None), "cfg.json") == Config("cfg.json")


def test_importing_layouts_does_not_import_yaml():
    assert "unitrow.layouts" in sys.modules

    script = "import sys, unitrow.layouts; assert not {'yaml', 'numpy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
