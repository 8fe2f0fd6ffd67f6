"""How a model is built and trained, as frozen values that a YAML file can fill."""

import math
from dataclasses import dataclass
from typing import Literal

from .fields import check_fields


@dataclass(frozen=True)
class ModelConfig:
    """The backbone and its task heads.

    Args:
        embedding_dim: d, the size of an embedding.
        num_blocks: Number of DHEN blocks, of crosses (`dcn_v2`) or of self-attentions (`self_attention`).
        attention: Attention of the factorization machine: from the row (`attentive`) or a weight (`static`).
        num_outputs: k, the columns of the attention.
        attention_units: Units of the attention MLP's hidden layer.
        mixing_outputs: Linear combinations of the fields beside the factorization machine. 0: none.
        shared_units: Units of the layers between the last block and the task heads.
        head_units: Units of a task head's hidden layers.
        dropout: Share of a block's outputs dropped in training, in [0, 1); without blocks, of the embeddings.
        mixed_precision: Compute in bfloat16, with weights, logits and losses in float32.
        backbone: What maps the fields to the shared representation; see `backbones`. `attention`, `num_outputs`,
            `attention_units`, `mixing_outputs` and `density_penalty` are of `dhen`.
        attention_heads: Attentions side by side in the multi-head attention of `self_attention` and
            `history_attention`, each of embedding_dim / attention_heads units.
        density_penalty: Weight of the sparsity of the attention in the loss; see `FMAttention`. 0: none.
        num_experts: Experts between the backbone and the heads, each task with a gate of its own (MMoE), each expert of
            as many units as the last of `shared_units`. 0: none.
        cohort_layer: Name of an earlier layer whose output, flattened, the cohort heads read: `block_0` is the first
            DHEN block. None: the shared representation, as the primary head.
    """

    embedding_dim: int = 16
    num_blocks: int = 2
    attention: Literal["attentive", "static"] = "attentive"
    num_outputs: int = 8
    attention_units: int = 32
    mixing_outputs: int = 8
    shared_units: tuple[int, ...] = (64,)
    head_units: tuple[int, ...] = (64,)
    dropout: float = 0.0
    mixed_precision: bool = False
    backbone: Literal["dhen", "mlp", "dcn_v2", "self_attention", "history_attention"] = "dhen"
    attention_heads: int = 2
    density_penalty: float = 0.0
    num_experts: int = 0
    cohort_layer: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("embedding_dim", "num_blocks", "num_outputs", "attention_units", "attention_heads"):
            _check(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _check(0 <= self.dropout < 1, "dropout", "in [0, 1)", self.dropout)
        for name in ("mixing_outputs", "num_experts"):
            _check(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        for name in ("shared_units", "head_units"):
            units = getattr(self, name)
            _check(all(number >= 1 for number in units), name, "at least 1 each", units)
        _check(len(self.shared_units) >= 1, "shared_units", "at least one layer (its output is shared)", ())
        _check(0 <= self.density_penalty < math.inf, "density_penalty", "finite and at least 0", self.density_penalty)
        penalized = self.backbone == "dhen" or not self.density_penalty
        _check(penalized, "density_penalty", f"0 for backbone={self.backbone!r}", self.density_penalty)
        mixed = self.num_experts == 0 or self.cohort_layer is None
        _check(mixed, "cohort_layer", "null with `num_experts`, which all heads share", self.cohort_layer)


@dataclass(frozen=True)
class TrainingConfig:
    """One training run.

    Args:
        batch_size: Rows per step.
        epochs: Passes over the training rows.
        learning_rate: Step size at the start.
        decay: Decay the learning rate to zero by a cosine over the run (which makes seeds agree far more closely), or
            keep it `constant`.
        clip_norm: Bound on the norm of the gradient. None: no bound.
        jit_compile: Compile the step with XLA. `auto`: if that makes all seeds of an arm faster together, which the
            first training of a run measures; always on a GPU.
        patience: Stop after so many epochs without a better primary NE on the validation rows, and keep the best
            epoch's weights. None: train all epochs and keep the last one's.
        checkpoint_steps: Steps between two checkpoints that an interrupted run resumes from.
        keep_checkpoints: Number of the last checkpoints that are kept, beside the best one: if one is damaged, the run
            resumes from the one before it.
        steps_per_execution: Steps in one call from Python. It changes no result; small models gain.
        optimizer: Optimizer of the dense weights.
        table_optimizer: Optimizer of the embedding tables: it updates the rows of the batch, at a cost that does not
            depend on the table's size. `lazy_adam` is Adam on those rows; `row_wise_adagrad` keeps one number per row.
            None: the optimizer of the dense weights, which updates the whole table at every step.
        table_learning_rate: Step size of the tables at the start. None: `learning_rate`.
    """

    batch_size: int = 1024
    epochs: int = 1
    learning_rate: float = 1e-3
    decay: Literal["cosine", "constant"] = "cosine"
    clip_norm: float | None = None
    jit_compile: bool | Literal["auto"] = "auto"
    patience: int | None = None
    checkpoint_steps: int = 1000
    keep_checkpoints: int = 3
    steps_per_execution: int = 1
    optimizer: Literal["adam", "adagrad"] = "adam"
    table_optimizer: Literal["lazy_adam", "adagrad", "row_wise_adagrad"] | None = None
    table_learning_rate: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("batch_size", "epochs", "checkpoint_steps", "keep_checkpoints", "steps_per_execution"):
            _check(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name, needed in (("learning_rate", True), ("table_learning_rate", False), ("clip_norm", False)):
            value = getattr(self, name)
            rule = "finite and above 0" if needed else "finite and above 0, or null"
            _check((value is None and not needed) or 0 < value < math.inf, name, rule, value)
        rate = self.table_learning_rate
        if self.table_optimizer is None:
            _check(rate is None, "table_learning_rate", "null without `table_optimizer`", rate)
        _check(self.patience is None or self.patience >= 1, "patience", "at least 1, or null", self.patience)


def _check(holds: bool, name: str, rule: str, received: object) -> None:
    if not holds:
        raise ValueError(f"`{name}` must be {rule}. Received: {name}={received}")
