"""One of two processes that share a decoder: run by test_distributed.py as `rank.py RANK STORE`."""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

import unitrow.torch as urt
from unitrow.errors import ArrayTypeError

ROWS, LENGTH = 65, 8  # an odd number of rows: the ranks hold 33 and 32


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.W_enc = nn.Parameter(torch.randn(LENGTH, ROWS))
        self.W_dec = nn.Parameter(torch.randn(ROWS, LENGTH))

    def forward(self, x):
        return torch.relu(x @ self.W_enc) @ self.W_dec


def largest_deviation(weight):
    norms = torch.linalg.vector_norm(weight.full_tensor().detach().double(), dim=-1)
    return float((norms - 1).abs().max())


def main(rank, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(20)
    mesh = init_device_mesh("cpu", (2,))
    weight, grad = torch.randn(ROWS, LENGTH), torch.randn(ROWS, LENGTH)
    for placement in (Shard(0), Replicate()):
        shared = distribute_tensor(weight.clone(), mesh, [placement])
        shared_grad = distribute_tensor(grad.clone(), mesh, [placement])
        assert urt.remove_parallel_(shared_grad, shared) is shared_grad
        assert torch.equal(shared_grad.full_tensor(), urt.remove_parallel_(grad.clone(), weight))
        assert urt.unit_norm_(shared) is shared
        assert torch.equal(shared.full_tensor(), urt.unit_norm_(weight.clone()))
    split = distribute_tensor(weight, mesh, [Shard(1)])
    for function in (urt.unit_norm_, urt.row_norms):
        try:
            function(split)
        except ArrayTypeError as error:
            assert "no rank has whole rows" in str(error)
        else:
            raise AssertionError

    model = Toy()
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    constraint = urt.UnitNorm(model, "W_dec")
    constraint.attach(optimizer)
    for _ in range(3):
        train(model, optimizer)
        assert largest_deviation(model.W_dec) < 1.2e-7
        assert constraint.max_deviation() < 1.2e-7

    model = Toy()
    fully_shard(model)
    optimizer = urt.UnitNormAdam(
        [{"params": [model.W_dec]}, {"params": [model.W_enc], "unit_norm": False}], lr=1e-2
    )
    for _ in range(3):
        before = model.W_enc.full_tensor()
        train(model, optimizer)
        assert largest_deviation(model.W_dec) < 1.2e-7
        assert not torch.equal(model.W_enc.full_tensor(), before)
    dist.destroy_process_group()


def train(model, optimizer):
    x = torch.randn(16, LENGTH)
    optimizer.zero_grad()
    (model(x) - x).square().mean().backward()
    optimizer.step()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
    # Meshes keep the group and its threads, and one that still holds a tensor aborts an interpreter that is
    # ending (pytorch/pytorch#179291): seen once, in a process whose checks had all passed.
    os._exit(0)
