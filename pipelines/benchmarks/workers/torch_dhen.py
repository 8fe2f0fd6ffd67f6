"""DHEN in plain PyTorch on the CPU: the table's gradient sparse, with Adagrad; Adam for the dense weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's users know it by this name

from .problem import Problem, draw_batches, task_labels
from .serving import Built, repeat_batches, serve

EPSILON = 1e-3


def build(spec: dict[str, Any]) -> Built:
    """The model with its two optimizers.

    Args:
        spec: `problem`; `mode`, `"eager"` or `"compile"`.
    """
    torch.manual_seed(0)
    problem = Problem.from_json(spec["problem"])
    table, network = nn.Embedding(problem.table_rows, problem.dim, sparse=True), _Network(problem)
    nn.init.uniform_(table.weight, -0.05, 0.05)
    batches = [
        tuple(torch.from_numpy(part) for part in (batch.ids, *task_labels(problem, batch)))
        for batch in draw_batches(problem)
    ]
    step = _step(problem, table, network, spec["mode"] == "compile")
    return Built(repeat_batches(step, batches), sum(p.numel() for p in (*table.parameters(), *network.parameters())))


class _Block(nn.Module):
    def __init__(self, problem: Problem) -> None:
        super().__init__()
        n, d, k, m = problem.num_fields, problem.dim, problem.num_outputs, problem.mixing_outputs
        self.shape = (n, k)
        self.hidden = nn.Linear(n * d, problem.attention_units)
        self.attention = nn.Linear(problem.attention_units, n * k)
        self.mixing = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n, m)))
        self.inner_norm = nn.LayerNorm(n * k + m * d, eps=EPSILON)
        self.ensemble = nn.Linear(n * k + m * d, n * d)
        self.norm = nn.LayerNorm(d, eps=EPSILON)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        Y = self.attention(F.relu(self.hidden(X.flatten(1)))).unflatten(1, self.shape)
        G = X @ (X.transpose(1, 2) @ Y)
        Z = self.mixing.T @ X
        u = torch.cat([G.flatten(1), Z.flatten(1)], 1)
        return self.norm(X + self.ensemble(self.inner_norm(u)).view_as(X))


class _Network(nn.Module):
    """From embeddings (batch, num_fields, dim) to the logits (batch,) of each task."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        units = problem.units
        self.blocks = nn.Sequential(*(_Block(problem) for _ in range(problem.num_blocks)))
        self.shared = nn.Linear(problem.num_fields * problem.dim, units)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 1)) for _ in (1.0, *problem.lambdas)
        )

    def forward(self, X: torch.Tensor) -> list[torch.Tensor]:
        h = F.relu(self.shared(self.blocks(X).flatten(1)))
        return [head(h)[:, 0] for head in self.heads]


def _step(problem: Problem, table: nn.Embedding, network: nn.Module, compiled: bool) -> Callable[..., torch.Tensor]:
    optimizers = [
        torch.optim.Adagrad(table.parameters(), problem.learning_rate, initial_accumulator_value=0.1),
        torch.optim.Adam(network.parameters(), problem.learning_rate, eps=1e-7),
    ]

    def loss_of(X: torch.Tensor, labels: tuple[torch.Tensor, ...]) -> torch.Tensor:
        losses = map(F.binary_cross_entropy_with_logits, network(X), labels)
        return sum(weight * loss for weight, loss in zip((1.0, *problem.lambdas), losses, strict=True))

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def step(ids: torch.Tensor, *labels: torch.Tensor) -> torch.Tensor:
        for one in optimizers:
            one.zero_grad(set_to_none=True)
        # The rows are gathered here: `torch.compile` refuses sparse gradients.
        loss = loss_of(table(ids), labels)
        loss.backward()
        for one in optimizers:
            one.step()
        return loss.detach()

    return step


if __name__ == "__main__":
    serve(build)
