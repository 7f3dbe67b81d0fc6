"""Adam on the unit sphere: gradient projection, update and renormalisation in one pass over memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, overload

import torch
from torch.optim import Optimizer
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from unitrow import _native
from unitrow.errors import ArrayError
from unitrow.torch._dispatch import local, uses_rust
from unitrow.torch._ops import remove_parallel_, unit_norm_

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim.optimizer import ParamsT, StateDict

# Formats that the fused kernel takes, in any mixture.
_FUSED_DTYPES = (torch.float32, torch.bfloat16)


class UnitNormAdam(Optimizer):
    """Adam whose parameters keep unit rows.

    Each step removes from the gradient its part along the row, updates as Adam does, and divides the row by
    its norm. The moments are not projected. Gradients stay as they are. On the CPU that is one pass over
    memory; on a GPU `compiled=True` and `fused=True` save most of the passes.

        optimizer = UnitNormAdam([
            {"params": [sae.W_dec]},
            {"params": [sae.W_enc, sae.b_enc], "unit_norm": False},     # plain Adam
        ], lr=1e-3)

    A state dict has the form of `torch.optim.Adam`'s, and each loads the other's. Weight decay is decoupled,
    as in `torch.optim.AdamW`; on constrained rows it only changes the angle of a step.

    A bfloat16 parameter cannot take steps smaller than its own rounding. With `master_weights=True` the state
    holds a float32 copy of it, `master`, which takes the steps and is what stays unit; the parameter receives
    its rounding, and the moments are float32. Whoever writes to such a parameter between steps writes to the
    master too, or the next step undoes it.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        dim: int = -1,
        master_weights: bool = False,
        fused: bool | None = None,
        compiled: bool = False,
    ) -> None:
        """Takes parameters and groups as every optimizer does.

        Args:
            params: Parameters or parameter groups. A group may set each argument below, and
                `unit_norm=False`.
            lr: Learning rate.
            betas: Decay rates of the two moments.
            eps: Added to the root of the second moment.
            weight_decay: Decoupled weight decay.
            dim: The dimension that rows run along.
            master_weights: Keep float32 copies of parameters in narrower formats.
            fused: On a GPU, update by torch's fused kernel: the fastest, but its second moments are 1e-5 off,
                because it takes 1 - beta2 in float32.
            compiled: On a GPU, have `torch.compile` make the kernels of the constraint, as for `unit_norm_`.

        Raises:
            ValueError: an argument out of range.
            ArrayError: a constrained parameter without dimension `dim` (also a `ValueError`).
        """
        # The keys of torch.optim.Adam, so that state dicts are exchangeable.
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": False,
            "maximize": False,
            "foreach": None,
            "capturable": False,
            "differentiable": False,
            "fused": fused,
            "decoupled_weight_decay": True,
            "dim": dim,
            "unit_norm": True,
            "master_weights": master_weights,
            "compiled": compiled,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, with the checks of the constructor."""
        super().add_param_group(param_group)
        try:
            _check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Loads the state of a `UnitNormAdam`, `torch.optim.Adam` or `torch.optim.AdamW`.

        What those do not know (`dim`, `unit_norm`, `master_weights`) stays as it is here; what they do know
        (`maximize`, and whether weight decay is decoupled) is done as they do it. `fused` and `compiled` say
        how a step is done, not what it does, and stay.

        Raises:
            ValueError: the state was made with amsgrad, which is not offered here.
        """
        if any(group.get("amsgrad") for group in state_dict["param_groups"]):
            msg = "the state dict was made with amsgrad=True, which UnitNormAdam does not do"
            raise ValueError(msg)
        own = [
            {key: group[key] for key in ("dim", "unit_norm", "master_weights")} for group in self.param_groups
        ]
        ways = [{key: group[key] for key in ("fused", "compiled")} for group in self.param_groups]
        super().load_state_dict(state_dict)
        for state in self.state.values():
            # A number in states of old, and on the GPU in those of torch's fused Adam.
            state["step"] = torch.as_tensor(state["step"], dtype=torch.float32, device="cpu")
        groups = zip(self.param_groups, state_dict["param_groups"], own, ways, strict=True)
        for group, saved, kept, way in groups:
            group.update(way)
            for key, value in kept.items():
                group.setdefault(key, value)
            # Adams from before this key existed knew no other way.
            group.setdefault("decoupled_weight_decay", False)
            for parameter, name in zip(group["params"], saved["params"], strict=True):
                if _has_master(parameter, group) and (state := state_dict["state"].get(name)):
                    self._restore_float32(parameter, state)

    def _restore_float32(self, parameter: Tensor, saved: dict[str, Tensor]) -> None:
        """Undoes that torch casts a loaded state to the format of its parameter."""
        state = self.state[parameter]
        for key in ("exp_avg", "exp_avg_sq", "master"):
            source = saved.get(key, parameter.detach())
            state[key] = source.to(parameter.device, torch.float32, copy=True)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Updates every parameter that has a gradient.

        Args:
            closure: Called first, with gradients enabled; what it returns is returned.

        Raises:
            RuntimeError: a sparse gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        if cast("Tensor", parameter.grad).layout != torch.strided:
            msg = "UnitNormAdam needs dense gradients"
            raise RuntimeError(msg)
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            moments = parameter
            if _has_master(parameter, group):
                moments = state["master"] = parameter.detach().to(torch.float32)
            for moment in ("exp_avg", "exp_avg_sq"):
                state[moment] = torch.zeros_like(moments, memory_format=torch.preserve_format)
        dim = group["dim"] if group["unit_norm"] else -1
        tensors = [parameter, cast("Tensor", parameter.grad), state["exp_avg"], state["exp_avg_sq"]]
        tensors += [state["master"]] if "master" in state else []
        if group["unit_norm"]:
            tensors = [local(x, dim, "a constrained parameter") for x in tensors]
        tensors[1] = tensors[1].resolve_neg()  # a lazily negated one is not what its memory holds
        if all(x.dtype in _FUSED_DTYPES for x in tensors) and parameter.ndim and uses_rust(*tensors):
            _fused(tensors, state["step"], group, dim)
        else:
            _composed(tensors, state["step"], group, dim)


def _fused(tensors: list[Tensor], step: Tensor, group: dict[str, Any], dim: int) -> None:
    step += 1
    weight, grad, exp_avg, exp_avg_sq, *masters = tensors
    _native.adam_step_(
        weight,
        grad,
        exp_avg,
        exp_avg_sq,
        dim,
        master=masters[0] if masters else None,
        step=int(step),
        lr=float(group["lr"]),
        betas=group["betas"],
        eps=group["eps"],
        weight_decay=group["weight_decay"],
        decoupled=group["decoupled_weight_decay"],
        maximize=group["maximize"],
        unit_norm=group["unit_norm"],
    )


def _composed(tensors: list[Tensor], step: Tensor, group: dict[str, Any], dim: int) -> None:
    """The same step of separate operations, where the kernel does not reach."""
    weight, grad, exp_avg, exp_avg_sq, *masters = tensors
    if masters:
        (master,) = masters
        _composed([master, grad.to(torch.float32), exp_avg, exp_avg_sq], step, group, dim)
        weight.copy_(master)
        return
    if group["unit_norm"]:
        grad = grad.clone(memory_format=torch.preserve_format)
        remove_parallel_(grad, weight.detach(), dim, compiled=group["compiled"])
    beta1, beta2 = group["betas"]
    alike = all(
        x.dtype == weight.dtype and x.stride() == weight.stride() for x in (grad, exp_avg, exp_avg_sq)
    )
    fused = bool(group["fused"]) and weight.is_cuda and alike
    # The fused kernel wants the count of steps beside the weights.
    steps = torch.full((), float(step), device=weight.device) if fused else step
    update = adamw if group["decoupled_weight_decay"] else adam
    update(
        [weight],
        [grad],
        [exp_avg],
        [exp_avg_sq],
        [],
        [steps],
        fused=fused or None,
        amsgrad=False,
        maximize=group["maximize"],
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        eps=group["eps"],
        weight_decay=group["weight_decay"],
    )
    if fused:
        step += 1
    if group["unit_norm"]:
        unit_norm_(weight, dim, compiled=group["compiled"])


def _has_master(parameter: Tensor, group: dict[str, Any]) -> bool:
    return bool(group["master_weights"]) and parameter.dtype in (torch.bfloat16, torch.float16)


def _check_group(group: dict[str, Any]) -> None:
    beta1, beta2 = group["betas"]
    for name, value, fits in (
        ("lr", group["lr"], group["lr"] >= 0),
        ("betas[0]", beta1, 0 <= beta1 < 1),
        ("betas[1]", beta2, 0 <= beta2 < 1),
        ("eps", group["eps"], group["eps"] >= 0),
        ("weight_decay", group["weight_decay"], group["weight_decay"] >= 0),
    ):
        if not fits:
            msg = f"{name} = {value} is out of range"
            raise ValueError(msg)
    if not group["unit_norm"]:
        return
    for parameter in group["params"]:
        if not -parameter.ndim <= group["dim"] < parameter.ndim:
            msg = (
                f"a parameter of shape {tuple(parameter.shape)} has no dimension {group['dim']} to be unit "
                f"along; put it into a group with unit_norm=False"
            )
            raise ArrayError(msg)
