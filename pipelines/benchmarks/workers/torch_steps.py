"""PyTorch on the CPU: the table's gradient sparse or dense, torch's own optimizers."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's users know it by this name

from .problem import NUM_DENSE, Problem, draw_batches
from .serving import Built, repeat_batches, serve


def build(spec: dict[str, Any]) -> Built:
    """One model with one optimizer.

    Args:
        spec: `problem`; `model`, `"MLP"` or `"DCN-V2"`; `optimizer`, `"Adagrad"` or `"Adam"`; `mode`, the gradient of
            the table: `"sparse"` or `"dense"`.
    """
    torch.manual_seed(0)
    problem = Problem.from_json(spec["problem"])
    model: nn.Module = {"MLP": _MLP, "DCN-V2": _DCN}[spec["model"]](problem)
    batches = [
        tuple(torch.from_numpy(part) for part in (batch.ids, batch.dense, batch.label))
        for batch in draw_batches(problem)
    ]
    step = _step(model, spec["optimizer"], problem.learning_rate, spec["mode"] == "sparse")
    return Built(repeat_batches(step, batches), sum(parameter.numel() for parameter in model.parameters()))


class _MLP(nn.Module):
    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.table = _table(problem)
        self.layers = _stack([problem.num_fields * problem.dim, problem.hidden, 1])

    def forward(self, ids: torch.Tensor, dense: torch.Tensor, sparse: bool) -> torch.Tensor:
        return self.layers(F.embedding(ids, self.table, sparse=sparse).flatten(1))


class _DCN(nn.Module):
    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.table = _table(problem)
        self.bottom = nn.Sequential(_stack([NUM_DENSE, *problem.bottom]), nn.ReLU())
        width = problem.num_inputs
        self.down = nn.ModuleList(nn.Linear(width, problem.projection, bias=False) for _ in range(problem.num_crosses))
        self.up = nn.ModuleList(nn.Linear(problem.projection, width) for _ in range(problem.num_crosses))
        self.top = _stack([problem.bottom[-1] + width, *problem.top, 1])

    def forward(self, ids: torch.Tensor, dense: torch.Tensor, sparse: bool) -> torch.Tensor:
        d = self.bottom(dense)
        x0 = x = torch.cat([F.embedding(ids, self.table, sparse=sparse).flatten(1), d], 1)
        for down, up in zip(self.down, self.up, strict=True):
            x = x0 * up(down(x)) + x
        return self.top(torch.cat([d, x], 1))


def _table(problem: Problem) -> nn.Parameter:
    return nn.Parameter(torch.empty(problem.table_rows, problem.dim).uniform_(-0.05, 0.05))


def _stack(sizes: list[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def _step(model: nn.Module, optimizer: str, learning_rate: float, sparse: bool) -> Callable[..., torch.Tensor]:
    optimizers = [
        _table_optimizer(model.table, optimizer, learning_rate, sparse),
        getattr(torch.optim, optimizer)([p for p in model.parameters() if p is not model.table], learning_rate),
    ]

    def step(ids: torch.Tensor, dense: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        model.zero_grad(set_to_none=True)
        loss = F.binary_cross_entropy_with_logits(model(ids, dense, sparse)[:, 0], label)
        loss.backward()
        for one in optimizers:
            one.step()
        return loss.detach()

    return step


def _table_optimizer(table: nn.Parameter, optimizer: str, learning_rate: float, sparse: bool) -> torch.optim.Optimizer:
    if optimizer == "Adagrad":
        return torch.optim.Adagrad([table], learning_rate, initial_accumulator_value=0.1)
    return (torch.optim.SparseAdam if sparse else torch.optim.Adam)([table], learning_rate)


if __name__ == "__main__":
    serve(build)
