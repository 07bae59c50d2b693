"""The optimiser: orthogonalised momentum for matrices, AdamW for the rest.

A matrix of weights takes steps along the orthogonal polar factor of its averaged gradient, so that all its singular directions
learn alike (Muon: K. Jordan et al., 2024; J. Liu et al., arXiv 2502.16982). On bilayers of graphene it halves the training
error that AdamW has after as many steps. The polar factor comes from a few Newton-Schulz iterations, X <- a X + (b A + c A²) X
with A = X X^T. `torch.optim.Muon` iterates one matrix at a time in bfloat16, which takes three times a training step on a CPU;
here matrices of equal shape go together, in the precision of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # brings singular values of 0..1 near 1 in five iterations (K. Jordan)
ITERATIONS = 5
MOMENTUM = 0.95
BETAS = (0.9, 0.99)  # of AdamW
EPS = 1e-8


def make_optimizer(name: str, network: nn.Module, learning_rate: float, weight_decay: float) -> Optimizer:
    """The optimiser of that name, "muon" or "adamw", for a network."""
    if name == "adamw":
        return torch.optim.AdamW(
            network.parameters(), lr=learning_rate, weight_decay=weight_decay, betas=BETAS, eps=EPS, fused=True
        )
    embeddings, linear = (
        {id(m.weight) for m in network.modules() if isinstance(m, kind)} for kind in (nn.Embedding, nn.Linear)
    )
    names = [(name, id(p)) for name, p in network.named_parameters()]
    elementwise = {name for name, p in names if p in embeddings}
    outputs_first = {name for name, p in names if p in linear}
    return MuonAdamW(
        network.named_parameters(), learning_rate, weight_decay, elementwise.__contains__, outputs_first.__contains__
    )


class MuonAdamW(Optimizer):
    """Muon for the matrices of a network, AdamW for everything else.

    Parameters
    ----------
    named_parameters
        The weights; matrices with two rows and columns at least go to Muon, but for those that `elementwise` names.
    learning_rate
        Of both: the root mean square of AdamW's steps, and the spectral norm of the steps of a matrix, times
        sqrt(outputs / inputs) where it has more outputs than inputs, so that outputs of the size of the inputs change alike.
    weight_decay
        Of both, times the learning rate.
    elementwise
        Whether a parameter of that name has AdamW though it is a matrix: embeddings, whose rows are weights of their own.
    outputs_first
        Whether a matrix of that name is [outputs, inputs], as those of `torch.nn.Linear`; ours are [inputs, outputs].
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        learning_rate: float,
        weight_decay: float,
        elementwise: Callable[[str], bool] = lambda _: False,
        outputs_first: Callable[[str], bool] = lambda _: False,
    ) -> None:
        inputs_first: list[nn.Parameter] = []
        transposed: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, p in named_parameters:
            whole = p.ndim == 2 and min(p.shape) > 1 and not elementwise(name)
            (rest if not whole else transposed if outputs_first(name) else inputs_first).append(p)
        groups: list[dict[str, Any]] = [
            {"params": inputs_first, "outputs": 1},  # the axis of a matrix that counts its outputs
            {"params": transposed, "outputs": 0},
            {"params": rest, "outputs": None},
        ]
        defaults = {"lr": learning_rate, "weight_decay": weight_decay}
        super().__init__([g for g in groups if g["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; `closure` computes loss and gradients anew."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            for p in with_gradient:
                p.mul_(1 - group["lr"] * group["weight_decay"])
            if group["outputs"] is None:
                self._adamw(with_gradient, group["lr"])
            else:
                self._muon(with_gradient, group["lr"], group["outputs"])
        return loss

    def _muon(self, parameters: list[nn.Parameter], rate: float, outputs: int) -> None:
        by_shape: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for p in parameters:
            by_shape.setdefault(tuple(p.shape), []).append(p)
        for shape, together in by_shape.items():
            directions = torch.stack([self._momentum(p) for p in together])
            factor = rate * max(1.0, shape[outputs] / shape[1 - outputs]) ** 0.5
            for p, step in zip(together, polar_factors(directions), strict=True):
                p.add_(step, alpha=-factor)

    def _momentum(self, p: nn.Parameter) -> Tensor:
        """Nesterov's momentum of a gradient."""
        state, gradient = self.state[p], _gradient(p)
        if not state:
            state["momentum"] = torch.zeros_like(p)
        average: Tensor = state["momentum"]
        average.lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(average, MOMENTUM)

    def _adamw(self, parameters: list[nn.Parameter], rate: float) -> None:
        first, second = BETAS
        for p in parameters:
            state, gradient = self.state[p], _gradient(p)
            if not state:
                state.update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p))
            state["step"] += 1
            mean, square = state["mean"].lerp_(gradient, 1 - first), state["square"]
            square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            size = (square / (1 - second ** state["step"])).sqrt_().add_(EPS)
            p.addcdiv_(mean, size, value=-rate / (1 - first ** state["step"]))


def polar_factors(matrices: Tensor) -> Tensor:
    """About U V^T of each matrix U S V^T: [n, rows, columns] -> the same shape; singular values come near 1, but for
    those below a hundredth of the largest.
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.transpose(1, 2)
    x = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-12)
    for _ in range(ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    factors: Tensor = x if matrices.shape[1] <= matrices.shape[2] else x.transpose(1, 2)
    return factors


def _gradient(p: nn.Parameter) -> Tensor:
    assert p.grad is not None
    return p.grad
