"""Which cohorts an arm trains on: chosen among the pairs of a discovery, or drawn at random as a control."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from c2al_tf.blocks import hash_rows
from c2al_tf.cohorts import Cohort, Discovery, Pair, RawColumn
from c2al_tf.types import Array

from .arms import Choice


@dataclass(frozen=True)
class RandomRows:
    """Rows drawn at random, as a cohort of training rows: nothing that a model sees tells its members.

    A row is drawn by a hash of its content, so that equal rows are drawn alike.

    Args:
        name: Name of its task.
        columns: The raw columns that are hashed, and last the label.
        positive_share: Share of the rows with label 1 that are drawn.
        negative_share: Share of the others.
        draw: Another number draws other rows.
        from_above: Whether the rows of the highest hashes are drawn, else those of the lowest: two cohorts of one draw,
            one from each end, have no row in common while their shares are at most 1 together.
    """

    name: str
    columns: tuple[str, ...]
    positive_share: float
    negative_share: float
    draw: int
    from_above: bool

    def contains(self, columns: Mapping[str, Any]) -> Array:
        """Maps raw columns of shape (rows,), NumPy arrays, to a boolean mask of shape (rows,)."""
        *content, label = (x.values if isinstance(x := columns[name], RawColumn) else x for name in self.columns)
        place = _hash_content(content, self.draw)
        share = np.where(label == 1, self.positive_share, self.negative_share)
        return place >= 1 - share if self.from_above else place < share

    def __str__(self) -> str:
        return f"{self.positive_share:.3g} of the positives and {self.negative_share:.3g} of the others, at random"

    def to_json(self) -> dict[str, Any]:
        """What it is, for people and for keys."""
        return {"random": self.name, **{k: v for k, v in vars(self).items() if k != "columns"}}


def choose(choice: Choice, discovery: Discovery, targeted: Sequence[Cohort], measure: str) -> tuple[Cohort, ...]:
    """The cohorts that a choice other than `random` names.

    Args:
        choice: The choice.
        discovery: What was found along the choice's axes.
        targeted: The cohorts that the run targets.
        measure: The divergence that ranks if the choice names none.

    Raises:
        ValueError: If no pair is left, or there is none of that rank.
    """
    if choice.by == "targeted":
        return discovery.cohorts(choice.number, guarded=choice.guard) if choice.number else _only(choice, targeted)
    pairs = ranked_pairs(choice, discovery, measure)
    if len(pairs) <= choice.rank:
        passing = " that pass the guard" if choice.guard and choice.by == "rank" else ""
        raise ValueError(
            f"`rank` must be below the number of pairs, {len(pairs)}{passing}. Received: rank={choice.rank}"
        )
    return _only(choice, pairs[choice.rank].cohorts)


def ranked_pairs(choice: Choice, discovery: Discovery, measure: str) -> list[Pair]:
    """The pairs that a choice may take, in its order."""
    name = choice.divergence or measure
    if choice.by == "least":
        large = [pair for pair in discovery.pairs if not pair.too_small]
        return sorted(large, key=lambda pair: abs(pair.divergences[name]))
    allowed = [pair for pair in discovery.pairs if pair.accepted or not choice.guard]
    return sorted(allowed, key=lambda pair: -pair.divergences[name])


def random_rows(
    choice: Choice, targeted: Mapping[Cohort, tuple[int, int]], rows: int, positives: int, columns: Sequence[str]
) -> tuple[RandomRows, ...]:
    """Random rows for each targeted cohort, as many and with as many positives as it has.

    Args:
        choice: The choice.
        targeted: Of each targeted cohort its training rows, and the positives among them.
        rows: All training rows of a weight above 0.
        positives: The positives among them.
        columns: Columns of the features, and last the label.
    """
    drawn = [
        RandomRows(
            f"random_{number}",
            tuple(columns),
            own_positives / positives,
            (own_rows - own_positives) / (rows - positives),
            choice.draw + 1000 * (number // 2),
            from_above=number % 2 == 1,
        )
        for number, (own_rows, own_positives) in enumerate(targeted.values())
    ]
    return _only(choice, drawn)


def _only(choice: Choice, cohorts: Sequence[Any]) -> tuple[Any, ...]:
    if choice.only is None:
        return tuple(cohorts)
    if len(cohorts) != 2:
        raise ValueError(f"`only` chooses between two cohorts. Received: only={choice.only!r} of {len(cohorts)}")
    return (cohorts[0 if choice.only == "head" else 1],)


def _hash_content(columns: Sequence[Array], draw: int) -> Array:
    """Maps raw columns to a number in [0, 1) of each row, which depends on its content and the draw alone."""
    total = np.full(len(columns[0]), draw + 1, np.uint64)
    for number, values in enumerate(columns):
        flat = values.reshape(len(values), -1)
        for at in range(flat.shape[1]):
            total = hash_rows(total ^ _bits(flat[:, at]), seed=number)
    return total.astype(np.float64) / 2.0**64


def _bits(values: Array) -> Array:
    """Maps values of a raw column (rows,) to uint64 (rows,), equal where the values are."""
    if values.dtype == object:
        coded = pa.array(values, pa.large_string()).dictionary_encode()
        bits = np.array([zlib.crc32(value.encode()) for value in coded.dictionary.to_pylist()], np.uint64)
        return bits[coded.indices.to_numpy()]
    return values.astype(np.float64).view(np.uint64)
