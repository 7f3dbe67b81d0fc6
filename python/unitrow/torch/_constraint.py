"""`UnitNorm`: keeps the rows of one parameter on the unit sphere while an optimizer trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from unitrow.errors import ArrayError, ArrayTypeError
from unitrow.torch._dispatch import local
from unitrow.torch._ops import remove_parallel_, row_norms, unit_norm_

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from torch.optim import Optimizer
    from torch.utils.hooks import RemovableHandle


class UnitNorm:
    """A constraint on one parameter of a module: rows along `dim` have norm 1 after every optimizer step.

        handle = UnitNorm(sae, "W_dec").attach(optimizer)

    Before a step the part of the gradient along each row is removed; after it the rows are divided by their
    norm. The order is that of Bricken et al. (2023): the moments of Adam are not projected. The object is no
    module, adds nothing to a state dict and renames no key; hooks are no part of an optimizer's state either,
    so attach again after a restart. Steps that a gradient scaler skips change nothing.

    The parameter is found again by name at every step, because wrappers such as FSDP replace it.
    """

    def __init__(
        self, module: nn.Module, name: str, dim: int = -1, *, tangent: bool = True, compiled: bool = False
    ) -> None:
        """Names the parameter.

        Args:
            module: The module that holds the parameter, or one above it.
            name: Its name as in `module.named_parameters()`, such as `"W_dec"` or `"decoder.weight"`.
            dim: The dimension that rows run along: -1 for `W_dec` of shape `(d_sae, d_out)`, 0 for the
                `weight` of an `nn.Linear` decoder.
            tangent: Whether the gradient loses its part along the rows before each step.
            compiled: Have `torch.compile` make the kernels on a GPU, as for `unit_norm_`.

        Raises:
            ArrayTypeError: there is no such parameter, or it is parametrised, so that the attribute is
                computed and not trained.
            ArrayError: it has no dimension `dim`.
        """
        self._module = module
        self._name = name
        self._dim = dim
        self._tangent = tangent
        self._compiled = compiled
        weight = self.parameter
        if not -weight.ndim <= dim < weight.ndim:
            msg = f"{name!r} has shape {tuple(weight.shape)} and no dimension {dim}"
            raise ArrayError(msg)

    def __repr__(self) -> str:
        return f"UnitNorm({type(self._module).__name__}, {self._name!r}, dim={self._dim})"

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter as the module holds it now."""
        path, _, attribute = self._name.rpartition(".")
        try:
            owner = self._module.get_submodule(path)
            value = getattr(owner, attribute)
        except AttributeError as error:
            msg = f"{type(self._module).__name__} has no parameter {self._name!r}"
            raise ArrayTypeError(msg) from error
        if parametrize.is_parametrized(owner, attribute):
            msg = (
                f"{self._name!r} is parametrised: the optimizer trains parametrizations.{attribute}, and "
                f"normalising the computed value would have no effect; "
                f"torch.nn.utils.parametrize.remove_parametrizations() turns it back into a parameter"
            )
            raise ArrayTypeError(msg)
        if not isinstance(value, nn.Parameter):
            kind = type(value).__name__
            msg = f"{self._name!r} is no parameter but {kind}, computed from others (weight_norm?)"
            raise ArrayTypeError(msg)
        return value

    def project_(self) -> None:
        """Makes the rows unit vectors now: for the start of training and after loading weights."""
        unit_norm_(self.parameter, self._dim, compiled=self._compiled)

    def remove_parallel_gradient_(self) -> None:
        """Makes the gradient tangent to the sphere now; a parameter without gradient is left alone."""
        weight = self.parameter
        if weight.grad is not None:
            remove_parallel_(weight.grad, weight.detach(), self._dim, compiled=self._compiled)

    def max_deviation(self) -> float:
        """Largest |norm - 1| over the rows, in float64; of a DTensor, over this rank's rows.

        One pass over the weights: on a CPU about a quarter of the cost of an Adam step on them.
        """
        with torch.no_grad():
            norms = row_norms(local(self.parameter.detach(), self._dim, self._name), self._dim)
            return float((norms - 1).abs().max()) if norms.numel() else 0.0

    def attach(self, optimizer: Optimizer) -> Handle:
        """Keeps the constraint at every `optimizer.step()` until `handle.remove()`.

        Args:
            optimizer: Any `torch.optim.Optimizer` that trains the parameter; fused, foreach and compiled
                steps call the hooks too. A closure's gradient is projected each time the closure is called.

        Returns:
            A handle that detaches; also a context manager that does so on exit.

        Raises:
            ArrayError: the optimizer does not train this parameter.
        """
        weight = self.parameter
        if not any(weight is owned for group in optimizer.param_groups for owned in group["params"]):
            msg = (
                f"the optimizer does not train {self._name!r}; was it built before the module was wrapped, "
                f"moved or given new parameters?"
            )
            raise ArrayError(msg)
        hooks = [optimizer.register_step_post_hook(self._after_step)]
        if self._tangent:
            hooks.append(optimizer.register_step_pre_hook(self._before_step))
        return Handle(hooks)

    def attached(self, optimizer: Optimizer) -> Handle:
        """`attach`, under the name that reads well after `with`."""
        return self.attach(optimizer)

    def _before_step(
        self, _optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        # torch hands over the arguments of the unbound method: the optimizer itself comes first.
        optimizer, *positional = args
        closure = positional[0] if positional else kwargs.get("closure")
        if closure is None:
            self.remove_parallel_gradient_()
            return None
        projected = self._projecting(closure)
        if positional:
            return (optimizer, projected, *positional[1:]), kwargs
        return args, {**kwargs, "closure": projected}

    def _projecting(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """The closure, followed by the projection: inside it the gradient comes to be."""

        def projected() -> Any:
            loss = closure()
            self.remove_parallel_gradient_()
            return loss

        return projected

    def _after_step(self, _optimizer: Optimizer, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        self.project_()


class Handle:
    """Ends a constraint: by `remove()`, or on leaving a `with` block."""

    def __init__(self, hooks: list[RemovableHandle]) -> None:
        self._hooks = hooks

    def remove(self) -> None:
        """Detaches from the optimizer; a second call does nothing."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __enter__(self) -> Handle:  # noqa: PYI034
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
