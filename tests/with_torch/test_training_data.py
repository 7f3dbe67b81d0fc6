"""Batches from shards and from iterables: every row once, in an order that only the seed decides."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

from unitrow import _native  # noqa: E402
from unitrow.errors import ArrayError, ArrayTypeError, ConfigError, FormatError, LayoutError  # noqa: E402
from unitrow.training import ActivationShards  # noqa: E402
from unitrow.training.data import Pairs, Part, as_source  # noqa: E402
from unitrow.training.shuffling import _Order  # noqa: E402

from .training_data import write_shards  # noqa: E402

pytestmark = pytest.mark.torch

SIZES = [700, 41, 333]
ROWS = sum(SIZES)


@pytest.fixture
def folder(tmp_path):
    """Row i holds the number i, so that rows can be told apart."""
    number = torch.arange(ROWS, dtype=torch.float32).reshape(-1, 1)
    return write_shards(tmp_path / "shards", number.repeat(1, 300), -number.repeat(1, 500), SIZES)


def epoch(shards, batch_size, number=0, **options):
    per_epoch = shards.rows // batch_size
    batches = shards.batches(batch_size, start=number * per_epoch, **options)
    return list(itertools.islice(batches, per_epoch))


def numbers(batches):
    return torch.cat([inputs[:, 0] for inputs, _ in batches]).long()


@pytest.mark.parametrize("bucket_rows", [1, 100, 250, 10_000])
@pytest.mark.parametrize("batch_size", [1, 7, 64, ROWS])
def test_each_row_once_and_pairs_stay_together(folder, bucket_rows, batch_size, monkeypatch):
    monkeypatch.setattr("unitrow.training.shuffling._BLOCK_BYTES", 30_000)  # 15 rows
    shards = ActivationShards(folder, bucket_rows=bucket_rows)
    assert (shards.d_in, shards.d_out, shards.rows) == (300, 500, ROWS)
    batches = epoch(shards, batch_size)
    assert all(len(inputs) == len(targets) == batch_size for inputs, targets in batches)
    assert all((inputs[:, :1] == inputs).all() for inputs, _ in batches)
    assert all((targets == -inputs[:, :1]).all() for inputs, targets in batches)
    seen = numbers(batches)
    assert len(seen) == ROWS - ROWS % batch_size
    assert len(seen.unique()) == len(seen)


def test_the_order_is_random_within_and_across_buckets(folder, monkeypatch):
    monkeypatch.setattr("unitrow.training.shuffling._BLOCK_BYTES", 20_000)  # 10 rows
    shards = ActivationShards(folder, bucket_rows=300)
    first, second = (numbers(epoch(shards, 2, number)).float() for number in (0, 1))
    assert not torch.equal(first, second)
    for order in (first, second):
        place = torch.arange(len(order)).float()
        assert torch.corrcoef(torch.stack([place, order]))[0, 1].abs() < 0.15
        assert ((order[1:] - order[:-1]).abs() == 1).float().mean() < 0.05
    assert torch.equal(first, numbers(epoch(ActivationShards(folder, bucket_rows=300), 2)).float())
    assert not torch.equal(first, numbers(epoch(shards, 2, seed=1)).float())


@pytest.mark.parametrize("start", [0, 1, 5, 16, 17, 40])
def test_going_on_from_any_batch(folder, start, monkeypatch):
    monkeypatch.setattr("unitrow.training.shuffling._BLOCK_BYTES", 30_000)
    shards = ActivationShards(folder, bucket_rows=200)
    whole = list(itertools.islice(shards.batches(64), start + 3))
    rest = list(itertools.islice(shards.batches(64, start=start), 3))
    for (inputs, targets), (again, targets_again) in zip(whole[start:], rest, strict=True):
        assert torch.equal(inputs, again)
        assert torch.equal(targets, targets_again)


def test_processes_share_each_batch(folder):
    shards = ActivationShards(folder, bucket_rows=200)
    whole = numbers(itertools.islice(shards.batches(60, start=4), 30)).reshape(30, 60)
    parts = [
        numbers(itertools.islice(shards.batches(60, start=4, part=Part(rank, 3)), 30)).reshape(30, 20)
        for rank in range(3)
    ]
    assert torch.equal(torch.cat(parts, 1), whole)


def test_memory_is_used_again_but_not_while_a_batch_looks_at_it(folder):
    order = _Order(ActivationShards(folder)._shards, 100, 10, 0, Part())
    stream = order.batches(0)
    for _ in range(200):
        next(stream)
    assert len(order._memory[0]._arrays) <= 3
    kept = [next(stream) for _ in range(200)]
    assert len(order._memory[0]._arrays) > 3
    assert all((inputs == inputs[:, :1]).all() for inputs, _ in kept)
    again = ActivationShards(folder, bucket_rows=100).batches(10, start=200)
    assert torch.equal(numbers(kept), numbers(itertools.islice(again, 200)))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_dtypes_and_the_stored_order(tmp_path, dtype):
    inputs, targets = torch.randn(50, 3), torch.randn(50, 4)
    shards = ActivationShards(write_shards(tmp_path, inputs, targets, [20, 30], dtype))
    stored = [torch.cat(parts) for parts in zip(*shards.in_order(8), strict=True)]
    kind = stored[0].dtype
    assert kind == {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[dtype]
    assert torch.equal(stored[0], inputs.to(kind))
    assert torch.equal(stored[1], targets.to(kind))
    assert next(shards.batches(5))[1].dtype == kind


def shard(folder, name="activations-00000-of-00001.safetensors", **tensors):
    folder.mkdir(exist_ok=True)
    parts = [
        (tensor, dtype, list(shape), bytes(torch.Size(shape).numel() * {"F32": 4, "I32": 4, "F16": 2}[dtype]))
        for tensor, (dtype, *shape) in tensors.items()
    ]
    _native.write_safetensors(str(folder / name), parts, [])
    return folder / name


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"inputs": ("F32", 4, 2)}, ["targets", "none"]),
        ({"targets": ("F32", 4, 2)}, ["inputs", "none"]),
        ({"inputs": ("F32", 4, 2), "targets": ("F32", 3, 2)}, ["targets", "4 rows", "found 3"]),
        ({"inputs": ("F32", 0, 2), "targets": ("F32", 0, 2)}, ["inputs", "at least 1", "[0, 2]"]),
        ({"inputs": ("F32", 4), "targets": ("F32", 4, 2)}, ["inputs", "[rows, width]", "[4]"]),
        ({"inputs": ("I32", 4, 2), "targets": ("F32", 4, 2)}, ["inputs", "F32 or F16 or BF16", "I32"]),
    ],
)
def test_a_shard_that_does_not_fit(tmp_path, tensors, words):
    path = shard(tmp_path, **tensors)
    with pytest.raises(LayoutError) as error:
        ActivationShards(tmp_path)
    assert all(word in str(error.value) for word in [str(path), *words])


def test_shards_that_do_not_fit_each_other(tmp_path):
    same = {"inputs": ("F32", 4, 2), "targets": ("F32", 4, 3)}
    shard(tmp_path, "activations-00000-of-00002.safetensors", **same)
    with pytest.raises(LayoutError, match="expected 2 shards, found no activations-00001-of-00002"):
        ActivationShards(tmp_path)
    for other, words in (
        ({"inputs": ("F32", 4, 5), "targets": ("F32", 4, 3)}, r"inputs: expected F32 \[rows, 2\].*rows, 5"),
        ({"inputs": ("F32", 4, 2), "targets": ("F16", 4, 3)}, r"targets: expected F32 .*found F16"),
    ):
        shard(tmp_path, "activations-00001-of-00002.safetensors", **other)
        with pytest.raises(LayoutError, match=words):
            ActivationShards(tmp_path)
    shard(tmp_path, "activations-00001-of-00002.safetensors", **same)
    assert ActivationShards(tmp_path).rows == 8
    shard(tmp_path, "activations-00000-of-00003.safetensors", **same)
    with pytest.raises(LayoutError, match="shards"):
        ActivationShards(tmp_path)


def test_no_folder_and_no_shards(tmp_path):
    with pytest.raises(LayoutError, match="found none"):
        ActivationShards(tmp_path)
    with pytest.raises(FileNotFoundError):
        ActivationShards(tmp_path / "nowhere")


@pytest.mark.parametrize("length", [0, 5, 200, -1])
def test_a_truncated_shard(folder, length):
    path = folder / "activations-00001-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FormatError, match="activations-00001-of-00003"):
        ActivationShards(folder)


def test_a_shard_that_is_cut_while_it_is_read(folder):
    shards = ActivationShards(folder)
    path = folder / "activations-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-10_000])
    with pytest.raises(
        FormatError, match=r"00002-of-00003\.safetensors: (inputs|targets): expected \d+ bytes"
    ):
        list(itertools.islice(shards.batches(64), 16))


def test_batches_that_cannot_be(folder):
    shards = ActivationShards(folder)
    with pytest.raises(LayoutError, match=r"batch_size: 1075 rows, and the shards have 1074"):
        shards.batches(ROWS + 1)
    with pytest.raises(ConfigError, match="batch_size must be a multiple of the 3 processes"):
        shards.batches(64, part=Part(0, 3))
    with pytest.raises(ConfigError, match="bucket_rows"):
        ActivationShards(folder, bucket_rows=0)


def stream(data, batch_size, count, **options):
    options = {"seed": 0, "start": 0, "part": Part()} | options
    return list(itertools.islice(as_source(data).batches(batch_size, **options), count))


def pieces(sizes):
    inputs = torch.arange(sum(sizes)).float().reshape(-1, 1)
    return list(zip(inputs.split(sizes), (-inputs).split(sizes), strict=True))


@pytest.mark.parametrize("sizes", [[7], [1, 2, 3], [10, 1, 1, 9], [0, 5]])
def test_pieces_of_any_size_become_batches(sizes):
    data = pieces(sizes)
    whole = stream(data, 4, 9)
    assert all(len(inputs) == 4 and torch.equal(targets, -inputs) for inputs, targets in whole)
    expected = torch.arange(sum(sizes)).repeat(36)[:36]
    assert torch.equal(numbers(whole), expected)
    for start in (1, 3, 8):
        assert torch.equal(numbers(stream(data, 4, 9 - start, start=start)), expected[4 * start :])
    halves = [numbers(stream(data, 4, 9, part=Part(rank, 2))).reshape(9, 2) for rank in range(2)]
    assert torch.equal(torch.cat(halves, 1).reshape(-1), expected)


def test_an_iterator_ends_and_a_list_does_not():
    assert len(stream(iter(pieces([8, 8])), 4, 100)) == 4
    assert len(stream(pieces([8, 8]), 4, 100)) == 100
    assert stream([], 4, 100) == []


@pytest.mark.parametrize(
    ("item", "kind", "words"),
    [
        (torch.ones(2, 3), ArrayTypeError, "item 0 must be a pair"),
        ((torch.ones(2, 3), [1.0]), ArrayTypeError, "targets of item 0 .* is list"),
        ((torch.ones(2, 3).int(), torch.ones(2, 3)), ArrayTypeError, r"inputs of item 0 .* torch\.int32"),
        ((torch.ones(2, 3), torch.ones(2)), ArrayError, r"targets of item 0 .* \[2\]"),
        ((torch.ones(2, 3), torch.ones(4, 3)), ArrayError, "targets of item 0 must have 2 rows"),
    ],
)
def test_items_that_are_no_pairs(item, kind, words):
    with pytest.raises(kind, match=words):
        stream([item], 2, 1)


def test_data_that_is_no_source():
    with pytest.raises(ArrayTypeError, match=r"data must be .* is int"):
        as_source(3)
    assert isinstance(as_source([]), Pairs)
