"""The contenders of the comparisons: ours, and each peer library in each of its modes."""

import dataclasses
from typing import Any

from .contenders import Contender, peers_python, worker_command
from .workers.problem import Problem

# Memory of a contender while it trains, as a multiple of its table, measured at 5 M rows: the table, the optimizer's
# state, a dense gradient, and about two further copies that Keras leaves when it has initialized the table.
_TABLES = {
    ("ours", "RowWiseAdagrad", "XLA"): 3.4,
    ("ours", "SparseAdagrad", "XLA"): 3.6,
    ("ours", "LazyAdam", "XLA"): 4.6,
    ("keras", "Adagrad", "XLA"): 7.2,
    ("keras", "Adagrad", "no XLA"): 4.3,
    ("keras", "Adam", "XLA"): 7.3,
    ("keras", "Adam", "no XLA"): 6.0,
    ("tfrs", "Adagrad", "XLA"): 4.0,
    ("tfrs", "Adagrad", "no XLA"): 3.6,
    ("tfrs", "Adam", "XLA"): 4.0,
    ("tfrs", "Adam", "no XLA"): 8.0,
    ("torch", "Adagrad", "sparse"): 2.2,
    ("torch", "Adagrad", "dense"): 4.0,
    ("torch", "Adam", "sparse"): 3.2,
    ("torch", "Adam", "dense"): 5.0,
}
_PROCESS_GB = 0.8


def ours(problem: Problem, optimizer: str, *, model: str = "MLP", **arguments: Any) -> Contender:
    """An optimizer of `c2al_tf.optimizers`, under XLA; `arguments` are the optimizer's."""
    name = " ".join([optimizer, *(f"{key}={value}" for key, value in arguments.items())])
    return dataclasses.replace(
        _contender("ours", "keras_steps", problem, model, optimizer, "XLA", arguments=arguments), name=name
    )


def keras(problem: Problem, optimizer: str, *, model: str = "MLP") -> list[Contender]:
    """Keras 3 with its own optimizer; the model may hold keras-rs's layers."""
    library = "keras-rs" if model.startswith("keras-rs") else "Keras 3"
    both = [_contender("keras", "keras_steps", problem, model, optimizer, mode) for mode in ("XLA", "no XLA")]
    return [dataclasses.replace(one, name=f"{library} {optimizer}") for one in both]


def tfrs(problem: Problem, optimizer: str, *, model: str = "MLP") -> list[Contender]:
    """TFRS 0.7.7 on Keras 2; the model `"DCN-V2"` is TFRS's ranking model."""
    both = [_contender("tfrs", "tfrs_steps", problem, model, optimizer, mode) for mode in ("XLA", "no XLA")]
    legacy = {"TF_USE_LEGACY_KERAS": "1"}
    return [dataclasses.replace(one, name=f"TFRS (tf_keras) {optimizer}", environment=legacy) for one in both]


def torch(problem: Problem, optimizer: str, *, model: str = "MLP") -> list[Contender]:
    """PyTorch from `.venv-bench`; Adam is SparseAdam for sparse gradients."""
    both = [_contender("torch", "torch_steps", problem, model, optimizer, mode) for mode in ("sparse", "dense")]
    command = worker_command("torch_steps", peers_python())
    return [dataclasses.replace(one, name=f"PyTorch {optimizer}", command=command) for one in both]


def one_mode(contenders: list[Contender]) -> list[Contender]:
    """The last mode of each name, which for TensorFlow needs no compilation: enough for a quick run."""
    return list({contender.name: contender for contender in contenders}.values())


def _contender(
    library: str, worker: str, problem: Problem, model: str, optimizer: str, mode: str, **spec: Any
) -> Contender:
    spec |= {"problem": dataclasses.asdict(problem), "model": model, "optimizer": optimizer, "mode": mode}
    memory_gb = _PROCESS_GB + 4e-9 * problem.num_rows * problem.dim * _TABLES[library, optimizer, mode]
    return Contender(library, mode, worker_command(worker), spec, memory_gb)
