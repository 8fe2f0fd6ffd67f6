"""What all contenders of a comparison train on: sizes, and rows drawn with a seed."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

NUM_DENSE = 13
ZIPF = 1.05


@dataclass(frozen=True)
class Problem:
    """Sizes of the model and of its batches.

        MLP:    ids -> embeddings, flattened -> hidden -> 1
        DCN-V2: dense features -> bottom -> d;  [embeddings, d] -> crosses -> c;  [d, c] -> top -> 1
        DHEN:   ids -> embeddings -> blocks -> flattened -> units, the representation;  for each task -> units -> 1

    Args:
        num_rows: Rows of the embedding table, of all fields together.
        zipf: Exponent of the ids' frequencies, p(rank) ~ rank^-zipf; 0 draws them uniformly.
        num_fields: Categorical features, each with `num_rows / num_fields` ids.
        dim: Size of an embedding.
        batch_size: Rows of a batch.
        num_batches: Batches that are repeated, so that drawing them is not measured.
        hidden: Units of the MLP.
        bottom: Units of DCN-V2's layers below; the last is `dim`.
        num_crosses: Cross layers.
        projection: Rank of a cross layer's matrix.
        top: Units of DCN-V2's layers above, before the last, which has one.
        num_blocks: Blocks of DHEN.
        num_outputs: k, the columns of a block's attention.
        attention_units: Hidden units of the attention MLP.
        mixing_outputs: Linear combinations of the fields in a block.
        units: Units of DHEN's representation, and of the hidden layer of each of its task heads.
        lambdas: Weights of the losses of DHEN's cohort heads; the primary head's is 1.
        learning_rate: Of every optimizer.
    """

    num_rows: int
    zipf: float = ZIPF
    num_fields: int = 26
    dim: int = 16
    batch_size: int = 4096
    num_batches: int = 32
    hidden: int = 128
    bottom: tuple[int, ...] = (256, 64, 16)
    num_crosses: int = 3
    projection: int = 108
    top: tuple[int, ...] = (512, 256)
    num_blocks: int = 2
    num_outputs: int = 8
    attention_units: int = 32
    mixing_outputs: int = 8
    units: int = 64
    lambdas: tuple[float, ...] = (0.1, 0.1)
    learning_rate: float = 0.01

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Problem":
        """The inverse of `dataclasses.asdict` and a trip through JSON."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return cls(**values)

    @property
    def rows_per_field(self) -> int:
        """Ids of one field."""
        return self.num_rows // self.num_fields

    @property
    def table_rows(self) -> int:
        """`num_rows`, rounded down to whole fields."""
        return self.rows_per_field * self.num_fields

    @property
    def num_inputs(self) -> int:
        """Floats that DCN-V2's cross layers take from a row."""
        return (self.num_fields + 1) * self.dim

    def quick(self) -> "Problem":
        """The same with fewer and smaller batches, to see that it works."""
        return dataclasses.replace(self, batch_size=256, num_batches=2)


@dataclass(frozen=True)
class Batch:
    """Rows: ids int32 (batch, num_fields) of the common table, dense float32 (batch, 13), label float32 (batch,)."""

    ids: np.ndarray
    dense: np.ndarray
    label: np.ndarray


def draw_batches(problem: Problem, seed: int = 0) -> list[Batch]:
    """The batches, the same in every process."""
    rng = np.random.default_rng(seed)
    return [_draw_batch(problem, rng) for _ in range(problem.num_batches)]


def task_labels(problem: Problem, batch: Batch) -> list[np.ndarray]:
    """Labels (batch,) of DHEN's tasks: the primary one, then of each cohort, the rows whose id in a field is even."""
    return [batch.label, *(batch.label * (batch.ids[:, field] % 2 == 0) for field in range(len(problem.lambdas)))]


def _draw_batch(problem: Problem, rng: np.random.Generator) -> Batch:
    shape = (problem.batch_size, problem.num_fields)
    ids = draw_ids(rng.random(shape), problem.rows_per_field, problem.zipf)
    offsets = problem.rows_per_field * np.arange(problem.num_fields)
    return Batch(
        ids=(ids + offsets).astype(np.int32),
        dense=rng.standard_normal((problem.batch_size, NUM_DENSE), dtype=np.float32),
        label=(rng.random(problem.batch_size) < 0.25).astype(np.float32),
    )


def draw_ids(uniform: np.ndarray, num_ids: int, zipf: float) -> np.ndarray:
    """Maps uniform numbers in [0, 1) to ids below `num_ids` whose frequencies follow a power law.

        rank = (((num_ids + 1)^(1 - zipf) - 1) u + 1)^(1 / (1 - zipf))        inverse of the continuous distribution

    Ranks are spread over the ids as a hash spreads them: frequent ids are no neighbours in the table.
    """
    if zipf == 0:
        return np.floor(uniform * num_ids).astype(np.int64)
    power = 1 - zipf
    ranks = np.floor((((num_ids + 1) ** power - 1) * uniform + 1) ** (1 / power)).astype(np.int64) - 1
    # Multiplication by a number without common factor permutes the ids: 2^31 - 1 is a prime above any table here.
    return np.clip(ranks, 0, num_ids - 1) * (2**31 - 1) % num_ids
