"""Shards in random order, a bucket at a time."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unitrow.errors import ConfigError, LayoutError
from unitrow.training.data import Pair, Part, part_of
from unitrow.training.shards import Shard, digest, open_shards

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

_BLOCK_BYTES = 1 << 20
"""Neighbouring rows are read together, in pieces of about this size: large for a disk, small for a cache."""

_HELD = [object()]
_UNUSED = sys.getrefcount(_HELD[0])
"""The count of references to an object that only a list holds."""

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class ActivationShards:
    """Pairs from a folder of shards, in a new random order each time through.

    Blocks of neighbouring rows are put in random order, read until a bucket is full, and the rows of the
    bucket are shuffled. A bucket is filled while the one before is used; nothing else is in memory. The order
    is a function of the seed, so that a run goes on from any batch without reading what came before.

    Attributes:
        d_in: Width of the inputs.
        d_out: Width of the targets.
        rows: Pairs in all shards.
        metadata: What the recorder wrote into the first shard.
    """

    def __init__(self, folder: str | os.PathLike[str], *, bucket_rows: int = 1 << 17) -> None:
        """Opens the shards and reads their headers.

        Args:
            folder: Holds `activations-00000-of-00001.safetensors` and so on, each with `inputs` [n, d_in] and
                `targets` [n, d_out] in float32, float16 or bfloat16.
            bucket_rows: Rows that are shuffled together. Two buckets are in memory, three while a batch of an
                earlier one is still in use; of several processes each keeps its own part of them.

        Raises:
            OSError: Something cannot be read.
            FormatError: A file is truncated, or otherwise no safetensors file.
            LayoutError: The files do not make up a set of pairs.
            ConfigError: `bucket_rows` is not positive.
        """
        if bucket_rows < 1:
            raise ConfigError(f"bucket_rows must be positive, and is {bucket_rows}")
        self._shards = open_shards(folder)
        self._bucket_rows = bucket_rows
        self._digest: str | None = None
        self.d_in, self.d_out = (tensor.width for tensor in self._shards[0].tensors)
        self.rows = sum(shard.rows for shard in self._shards)
        self.metadata = self._shards[0].metadata

    def describe(self) -> dict[str, Any]:
        """What the order depends on beside the seed, and what tells one recording from another.

        Raises:
            OSError: Something cannot be read.
            FormatError: A file became shorter.
        """
        first = self._shards[0]
        if self._digest is None:
            self._digest = digest(self._shards)
        return {
            "rows": [shard.rows for shard in self._shards],
            "bucket_rows": self._bucket_rows,
            "tensors": [[tensor.dtype, tensor.width] for tensor in first.tensors],
            "metadata": dict(first.metadata),
            "digest": self._digest,
        }

    def batches(
        self, batch_size: int, *, seed: int = 0, start: int = 0, part: Part | None = None
    ) -> Iterator[Pair]:
        """Batches without end, from number `start` on, in the stored dtype.

        Of each time through the data the rows that fill no batch are left out, others each time.

        Args:
            batch_size: Rows of a batch, over all processes.
            seed: Of the order.
            start: Number of the first batch.
            part: Which part of each batch this process takes.

        Raises:
            LayoutError: A batch has more rows than the shards.
            ConfigError: `batch_size` cannot be divided among the processes.
            FormatError: A file became shorter.
        """
        part = part or Part()
        part_of(batch_size, part)
        if self.rows < batch_size:
            raise LayoutError(f"batch_size: {batch_size} rows, and the shards have {self.rows}")
        return _Order(self._shards, self._bucket_rows, batch_size, seed, part).batches(start)

    def in_order(self, batch_size: int) -> Iterator[Pair]:
        """Every row once, as stored; the last batch may be smaller.

        Raises:
            FormatError: A file became shorter.
        """
        for shard in self._shards:
            for first in range(0, shard.rows, batch_size):
                rows = min(batch_size, shard.rows - first)
                inputs, targets = (_read(shard, which, first, rows) for which in range(2))
                yield inputs, targets


def _read(shard: Shard, which: int, first: int, rows: int) -> torch.Tensor:
    tensor = shard.tensors[which]
    data = torch.empty((rows, tensor.row_bytes), dtype=torch.uint8)
    with shard.open() as file:
        shard.read_into(file, tensor, first, data.numpy().data.cast("B"))
    return data.view(_DTYPES[tensor.dtype])


@dataclass(frozen=True)
class _Bucket:
    """Part of one time through the data.

    Attributes:
        epoch: Which time.
        number: Which part.
        first: Place of its first row among those of the epoch.
        blocks: (shard, first row, rows) of what is read, in order.
    """

    epoch: int
    number: int
    first: int
    blocks: NDArray[np.int64]


class _Order:
    """Which row is where: the order of one run, and how it is read."""

    def __init__(self, shards: list[Shard], bucket_rows: int, batch_size: int, seed: int, part: Part) -> None:
        self._shards = shards
        self._bucket_rows = bucket_rows
        self._batch_size = batch_size
        self._seed = seed
        self._part = part
        self._own = batch_size // part.world
        self._batches_per_epoch = sum(shard.rows for shard in shards) // batch_size
        row_bytes = max(tensor.row_bytes for shard in shards for tensor in shard.tensors)
        rows = max(1, _BLOCK_BYTES // row_bytes)
        self._blocks = np.array(
            [
                (number, first, min(rows, shard.rows - first))
                for number, shard in enumerate(shards)
                for first in range(0, shard.rows, rows)
            ]
        )
        # A bucket ends with a block; of the batches at its ends a process may have all its rows.
        longest = min(bucket_rows + rows, int(self._blocks[:, 2].sum()))
        own = min(longest, (longest // batch_size + 2) * self._own)
        widths = [tensor.row_bytes for tensor in shards[0].tensors]
        self._memory = [_Memory(own, width) for width in widths]
        self._read = [np.empty((rows, width), np.uint8) for width in widths]

    def batches(self, start: int) -> Iterator[Pair]:
        """This process's part of each batch from number `start` on."""
        epoch, batch = divmod(start, self._batches_per_epoch)
        row = batch * self._batch_size
        held: Pair | None = None
        # One bucket is read ahead. Threads do, not processes: reading lets others run, and nothing is copied.
        with ThreadPoolExecutor(2) as readers:
            plan = self._plan(epoch, row)
            bucket = next(plan)
            filling = self._start_filling(readers, bucket)
            at = int(self._mine(bucket)[: row - bucket.first].sum())
            while True:
                inputs, targets = (part.result() for part in filling)
                filling = self._start_filling(readers, next(plan))
                if held is not None:
                    at = self._own - len(held[0])
                    held = torch.cat([held[0], inputs[:at]]), torch.cat([held[1], targets[:at]])
                    if len(held[0]) < self._own:
                        continue
                    yield held
                    held = None
                for first in range(at, len(inputs) - self._own + 1, self._own):
                    at = first + self._own
                    yield inputs[first:at], targets[first:at]
                if at < len(inputs):
                    # Copies, so that the buckets' memory is free for the next but one.
                    held = inputs[at:].clone(), targets[at:].clone()
                at = 0

    def _plan(self, epoch: int, row: int) -> Iterator[_Bucket]:
        """Buckets without end, from the one on that holds row `row` of the epoch."""
        while True:
            blocks = np.random.default_rng([self._seed, epoch]).permutation(self._blocks)
            ends = np.cumsum(blocks[:, 2])
            full = np.arange(self._bucket_rows, ends[-1] + self._bucket_rows, self._bucket_rows)
            cuts = np.unique(np.minimum(np.searchsorted(ends, full) + 1, len(blocks)))
            first, begin = 0, 0
            for number, cut in enumerate(cuts.tolist()):
                end = int(ends[cut - 1])
                if row < end:
                    part = blocks[begin:cut]
                    in_order = part[np.lexsort((part[:, 1], part[:, 0]))]  # a disk's order; rows are shuffled
                    yield _Bucket(epoch, number, first, in_order)
                first, begin = end, cut
            epoch, row = epoch + 1, 0

    def _mine(self, bucket: _Bucket) -> NDArray[np.bool_]:
        """Which places of a bucket belong to this process; those after the last full batch to none."""
        place = bucket.first + np.arange(bucket.blocks[:, 2].sum())
        batch, within = np.divmod(place, self._batch_size)
        mine: NDArray[np.bool_] = (batch < self._batches_per_epoch) & (within // self._own == self._part.rank)
        return mine

    def _start_filling(self, readers: ThreadPoolExecutor, bucket: _Bucket) -> list[Future[torch.Tensor]]:
        """Read a bucket; each row goes straight to its place in the shuffled order."""
        mine = self._mine(bucket)
        place = np.random.default_rng([self._seed, bucket.epoch, bucket.number + 1]).permutation(len(mine))
        slots = np.where(mine, np.cumsum(mine) - 1, -1)[place]
        rows = int(mine.sum())
        return [readers.submit(self._fill, bucket, which, slots, rows) for which in range(2)]

    def _fill(self, bucket: _Bucket, which: int, slots: NDArray[np.int64], rows: int) -> torch.Tensor:
        tensor = self._shards[0].tensors[which]
        row = f"V{tensor.row_bytes}"  # one element, which is copied whole
        filled, block = self._memory[which].take(rows), self._read[which]
        to, read = filled.view(row)[:, 0], block.view(row)[:, 0]
        begin = 0
        for number in np.unique(bucket.blocks[:, 0]).tolist():
            shard = self._shards[number]
            with shard.open() as file:
                for _, first, count in bucket.blocks[bucket.blocks[:, 0] == number].tolist():
                    shard.read_into(file, shard.tensors[which], first, block[:count].data.cast("B"))
                    slot = slots[begin : begin + count]
                    kept = slot >= 0
                    if kept.all():
                        to[slot] = read[:count]
                    else:
                        to[slot[kept]] = read[:count][kept]
                    begin += count
        return torch.from_numpy(filled).view(_DTYPES[tensor.dtype])


class _Memory:
    """Arrays of rows, used again when no batch looks at them: touching new memory is slower than reading."""

    def __init__(self, rows: int, row_bytes: int) -> None:
        self._shape = (rows, row_bytes)
        self._arrays: list[NDArray[np.uint8]] = []

    def take(self, rows: int) -> NDArray[np.uint8]:
        """An array of so many rows, at most as many as were announced; its contents are anything."""
        for place in range(len(self._arrays)):
            # A view holds its array, and a tensor the view that it was made from.
            if sys.getrefcount(self._arrays[place]) == _UNUSED:
                return self._arrays[place][:rows]
        self._arrays.append(np.empty(self._shape, np.uint8))
        return self._arrays[-1][:rows]
