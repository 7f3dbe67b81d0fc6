"""Recorded activations against a forward pass by hand, on small models with random weights."""

from __future__ import annotations

import json
import os

import pytest

pytestmark = pytest.mark.interop

WORDS = [f"w{number}" for number in range(60)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


@pytest.fixture(scope="session")
def transformers():
    return pytest.importorskip("transformers", reason="transformers is not installed (extra train)")


@pytest.fixture
def tokenizer(transformers):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    raw = Tokenizer(models.WordLevel({word: at for at, word in enumerate(SPECIAL + WORDS)}, "[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **names)


@pytest.fixture
def bert(transformers):
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12
    )
    return transformers.BertModel(config)


@pytest.fixture
def llama(transformers):
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        pad_token_id=0,
    )
    return transformers.LlamaForCausalLM(config)


def texts(count=9):
    """Of one to `count` words each."""
    return [" ".join(WORDS[(5 * n + i) % 60] for i in range(n + 1)) for n in range(count)]


def recorded(torch, folder):
    """All shards of a folder, in order, and the metadata of each."""
    from safetensors import safe_open

    inputs, targets, metadata = [], [], []
    for name in sorted(os.listdir(folder)):
        with safe_open(os.path.join(folder, name), "pt") as file:
            inputs.append(file.get_tensor("inputs"))
            targets.append(file.get_tensor("targets"))
            metadata.append(file.metadata())
    return torch.cat(inputs), torch.cat(targets), metadata


def sorted_rows(torch, rows):
    """Rows in an order of their own: recording may exchange tokens of neighbouring windows."""
    return rows[torch.argsort(rows[:, 0])]


def same_rows(torch, recording, by_hand):
    torch.testing.assert_close(sorted_rows(torch, recording), sorted_rows(torch, by_hand))


def test_bert(torch, bert, tokenizer, tmp_path):
    from unitrow.training.recording import mlp_site, record

    site = mlp_site(bert, 1)
    count = record(bert, tokenizer, texts(), tmp_path, site=site, batch_tokens=40, shard_bytes=16 * 4 * 10)
    assert count == sum(range(1, 10))

    bert.eval()
    layer = bert.encoder.layer[1]
    x, y = [], []
    with torch.no_grad():
        for text in texts():
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            before = bert(ids, output_hidden_states=True).hidden_states[1]
            entering = layer.attention(before)[0]
            leaving = layer.output.dense(layer.intermediate(entering))
            x.append(entering[0, 1:-1])
            y.append(leaving[0, 1:-1])
    inputs, targets, metadata = recorded(torch, tmp_path)
    same_rows(torch, inputs, torch.cat(x))
    same_rows(torch, targets, torch.cat(y))
    # Pairs stay pairs.
    again = layer.output.dense(layer.intermediate(inputs)).detach()
    torch.testing.assert_close(again, targets)
    assert [words["tokens"] for words in metadata] == ["10", "10", "10", "10", "5"]
    assert {words["site"] for words in metadata} == {
        "encoder.layer.1.intermediate.dense -> encoder.layer.1.output.dense"
    }
    assert max(os.listdir(tmp_path)) == "activations-00004-of-00005.safetensors"


def test_llama(torch, llama, tokenizer, tmp_path):
    from unitrow.training.recording import mlp_site, record

    site = mlp_site(llama, 0)
    assert str(site) == "model.layers.0.mlp"
    llama.train()
    count = record(llama, tokenizer, texts(), tmp_path, site=site, model_name="tiny")
    assert llama.training
    assert count == sum(range(1, 10))
    llama.eval()
    layer = llama.model.layers[0]
    x = []
    with torch.no_grad():
        for text in texts():
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            states = llama.model.embed_tokens(ids)
            positions = torch.arange(ids.shape[1])[None]
            rotary = llama.model.rotary_emb(states, positions)
            # Alone in its batch a text needs no mask but the causal one.
            mask = torch.full((ids.shape[1], ids.shape[1]), -torch.inf).triu(1)[None, None]
            attended = states + layer.self_attn(layer.input_layernorm(states), rotary, mask)[0]
            x.append(layer.post_attention_layernorm(attended)[0, 1:-1])
        inputs, targets, metadata = recorded(torch, tmp_path)
        same_rows(torch, inputs, torch.cat(x))
        torch.testing.assert_close(layer.mlp(inputs), targets)
    assert metadata == [{"model": "tiny", "site": "model.layers.0.mlp", "tokens": "45"}]


def test_gemma_2_adds_the_mlp_after_a_norm(transformers):
    from unitrow.training.recording import mlp_site

    config = transformers.Gemma2Config(
        vocab_size=64,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        intermediate_size=12,
    )
    site = mlp_site(transformers.Gemma2Model(config), 0)
    assert (site.source, site.target) == ("layers.0.mlp", "layers.0.post_feedforward_layernorm")


def test_long_texts_are_cut_and_the_end_is_exact(torch, bert, tokenizer, tmp_path):
    from unitrow.training.recording import mlp_site, record, windows

    long = " ".join(WORDS[:20])
    assert [len(window) for window in windows(tokenizer, [long], 10)] == [10, 10, 6]
    tokens = []
    record(
        bert, tokenizer, [long] * 3, tmp_path, site=mlp_site(bert, 0),
        max_tokens=33, length=10, batch_tokens=20, dtype=torch.bfloat16, progress=tokens.append,
    )  # fmt: skip
    inputs, targets, _ = recorded(torch, tmp_path)
    assert inputs.shape == targets.shape == (33, 8)
    assert inputs.dtype == torch.bfloat16
    assert tokens[-1] == 33
    assert tokens == sorted(tokens)


def test_special_words_in_the_text_are_not_recorded(bert, tokenizer, tmp_path):
    from unitrow.training.recording import mlp_site, record

    assert record(bert, tokenizer, ["w1 [SEP] w2"], tmp_path, site=mlp_site(bert, 0)) == 2


def test_the_trainer_reads_what_is_recorded(bert, tokenizer, tmp_path):
    from unitrow.training.recording import mlp_site, record
    from unitrow.training.shards import open_shards

    record(bert, tokenizer, texts(), tmp_path, site=mlp_site(bert, 0), shard_bytes=16 * 4 * 20)
    shards = open_shards(tmp_path)
    assert [shard.rows for shard in shards] == [20, 20, 5]
    assert json.loads(shards[2].metadata["tokens"]) == 5


def test_bad_sites(llama, tokenizer, tmp_path):
    from unitrow.errors import ConfigError
    from unitrow.training.recording import Site, mlp_site, record

    def attempt(source, target="model.layers.0.mlp"):
        record(llama, tokenizer, texts(), tmp_path, site=Site(source, target))

    with pytest.raises(ConfigError, match=r"^site: .*'model.layer.1.mlp'.* model\.layers\.1\.mlp"):
        attempt("model.layer.1.mlp")
    with pytest.raises(ConfigError, match=r"^site: .*'h.0.mlp'.* model\.layers\.0\.mlp"):
        attempt("h.0.mlp")
    with pytest.raises(ConfigError, match=r"^site\.target: module model\.layers did not run"):
        attempt("model.layers.0.mlp", "model.layers")
    with pytest.raises(ConfigError, match=r"^layer: LlamaForCausalLM has no layer 2"):
        mlp_site(llama, 2)
    assert os.listdir(tmp_path) == []
    assert not os.path.exists(f"{tmp_path}.unfinished")


def test_nothing_to_record(bert, tokenizer, tmp_path):
    from unitrow.errors import ConfigError
    from unitrow.training.recording import mlp_site, record

    for corpus in ([], ["", "[SEP]"]):
        with pytest.raises(ConfigError, match=r"^texts: no tokens"):
            record(bert, tokenizer, corpus, tmp_path, site=mlp_site(bert, 0))


def test_a_folder_with_shards_is_left_alone(bert, tokenizer, tmp_path):
    from unitrow.training.recording import mlp_site, record

    record(bert, tokenizer, texts(), tmp_path, site=mlp_site(bert, 0))
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(FileExistsError, match="not empty"):
        record(bert, tokenizer, texts(), tmp_path, site=mlp_site(bert, 0))
    assert sorted(os.listdir(tmp_path)) == before == ["activations-00000-of-00001.safetensors"]


def test_infinite_activations_leave_no_shard(torch, bert, tokenizer, tmp_path):
    from unitrow.errors import ArrayError
    from unitrow.training.recording import mlp_site, record

    with torch.no_grad():
        bert.encoder.layer[0].output.dense.bias[3] = torch.inf
    with pytest.raises(ArrayError, match=r"^targets: NaN or Inf"):
        record(bert, tokenizer, texts(), tmp_path, site=mlp_site(bert, 0))
    assert os.listdir(tmp_path) == []


def test_what_comes_after_the_site_is_not_run(torch, llama):
    """Logits of a large vocabulary took most of the time and the memory."""
    from unitrow.training.recording import Recorder, mlp_site

    ran = []
    for name, module in llama.named_modules():
        if name in {"model.layers.0", "model.layers.1", "model.norm", "lm_head"}:
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    ids = torch.randint(4, 64, (2, 5))
    llama.train()
    llama.model.layers[1].eval()  # frozen, say; it stays so
    with Recorder(llama, mlp_site(llama, 0)) as recorder:
        inputs, targets = recorder(ids, torch.ones_like(ids))
    assert ran == []  # layer 0 itself ends after its MLP
    assert inputs.shape == targets.shape == (2, 5, 8)
    assert (llama.training, llama.model.layers[0].training, llama.model.layers[1].training) == (1, 1, 0)
    llama(ids)  # hooks are gone, and the model is whole
    assert ran == ["model.layers.0", "model.layers.1", "model.norm", "lm_head"]


@pytest.mark.parametrize("puts_bos", [False, True])
def test_the_first_position_is_left_out_with_and_without_bos(torch, transformers, llama, puts_bos, tmp_path):
    """Without BOS the first word stands where a causal model parks its attention, and was recorded."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    from unitrow.training.recording import mlp_site, record

    raw = Tokenizer(models.WordLevel({word: at for at, word in enumerate(["<s>", "</s>", *WORDS])}))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if puts_bos:
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    corpus = ["w1 w2 w3 w4 w5 </s> w6 w7"]
    site = mlp_site(llama, 0)

    def inputs_of(length, name, **options):
        record(llama, tokenizer, corpus, tmp_path / name, site=site, length=length, **options)
        return recorded(torch, tmp_path / name)[0]

    # One window: all words but the one in the first position; </s> never.
    assert len(inputs_of(64, "whole")) == (7 if puts_bos else 6)
    assert len(inputs_of(64, "all", first_position=True)) == 7
    # Windows of four places: each begins anew, with BOS or without.
    assert len(inputs_of(4, "cut")) == (7 if puts_bos else 5)
    ids = tokenizer(corpus[0], return_tensors="pt")["input_ids"]
    seen = []
    hook = llama.model.layers[0].mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    llama.eval()
    with torch.no_grad():
        llama(ids)
    hook.remove()
    keep = ids[0] > 1
    keep[0] = False
    same_rows(torch, recorded(torch, tmp_path / "whole")[0], seen[0][keep])


def test_an_interrupted_recording_does_not_stand_in_the_way(torch, bert, tokenizer, tmp_path):
    """A kill left files in the folder, which the demonstration then took for a recording."""
    import signal

    from unitrow.errors import ConfigError
    from unitrow.training.locks import alone_in
    from unitrow.training.recording import mlp_site, record

    site, folder = mlp_site(bert, 0), tmp_path / "shards"

    def start(progress=lambda _: None):
        return record(
            bert,
            tokenizer,
            texts(),
            folder,
            site=site,
            shard_bytes=16 * 4 * 4,
            batch_tokens=16,
            progress=progress,
        )

    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        start(lambda tokens: os.kill(os.getpid(), signal.SIGKILL) if tokens > 20 else None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.listdir(tmp_path) == ["shards.unfinished"]
    assert any(name.startswith("recording-") for name in os.listdir(tmp_path / "shards.unfinished"))
    with alone_in(f"{folder}.unfinished", "folder"), pytest.raises(ConfigError, match="in use by process"):
        start()
    folder.mkdir()  # an empty folder may be there
    assert start() == 45
    assert os.listdir(tmp_path) == ["shards"]
    assert all(name.startswith("activations-") for name in os.listdir(folder))
    assert len(recorded(torch, folder)[0]) == 45
