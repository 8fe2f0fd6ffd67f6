"""True click rates and the Bayes-optimal NE of generated rows, as sums that merge."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from scipy.special import logit

from c2al_tf.entropy import log_loss, normalized_entropy
from c2al_tf.types import Array, Columns

from .ads_world import COHORT_NAMES, SyntheticAds, make_world
from .synthetic_ads import generate


@dataclass(frozen=True)
class Truth:
    """Sums over some rows, with `p` a row's true click probability and `y` its click; `+` merges those of other rows.

    Args:
        rows: Number of rows.
        clicks: Sum of y.
        probability: Sum of p.
        entropy: Sum of H(p) = -p log p - (1 - p) log(1 - p), the log loss that p is expected to have.
        log_loss: Sum of -y log p - (1 - y) log(1 - p), the log loss that p has on these clicks.
    """

    rows: int = 0
    clicks: int = 0
    probability: float = 0.0
    entropy: float = 0.0
    log_loss: float = 0.0

    @classmethod
    def of(cls, probability: Array, click: Array) -> "Truth":
        """The sums of rows, `(rows,)` each."""
        logits = logit(probability)
        return cls(
            rows=len(click),
            clicks=int(click.sum()),
            probability=float(probability.sum()),
            entropy=float(log_loss(probability, logits).sum()),
            log_loss=float(log_loss(click, logits).sum()),
        )

    def __add__(self, other: "Truth") -> "Truth":
        sums = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Truth(*(a + b for a, b in sums))

    @property
    def click_rate(self) -> float | None:
        """True click rate, the mean of p; None without rows."""
        return self.probability / self.rows if self.rows else None

    @property
    def bayes_ne(self) -> float | None:
        """Expected NE of p, which no model can beat: mean H(p) / H(mean p); None without rows."""
        return _defined(normalized_entropy(self.entropy, self.probability, self.rows))

    @property
    def ne(self) -> float | None:
        """NE of p on these clicks, to compare with a model's: mean log loss / H(mean y); None without clicks."""
        return _defined(normalized_entropy(self.log_loss, self.clicks, self.rows))

    def to_json(self) -> dict[str, Any]:
        """The metrics, and under `sums` the fields that `from_json` reads."""
        metrics = {"click_rate": self.click_rate, "bayes_ne": self.bayes_ne, "ne": self.ne}
        return {"rows": self.rows, "clicks": self.clicks, **metrics, "sums": dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Truth":
        """Reads what `to_json` gave."""
        return cls(**value["sums"])


def _defined(ne: float) -> float | None:
    return None if math.isnan(ne) else ne


Truths: TypeAlias = Mapping[str, Truth]
"""The truth of all rows (`all`) and of each of `COHORT_NAMES`."""


def truths_of(parameters: SyntheticAds, columns: Columns, probability: Array) -> Truths:
    """The truth of a batch that `generate` gave."""
    cohorts = make_world(parameters).cohort(columns["user_value"])
    by_cohort = {
        name: Truth.of(probability[cohorts == number], columns["click"][cohorts == number])
        for number, name in enumerate(COHORT_NAMES)
    }
    return {"all": sum(by_cohort.values(), Truth()), **by_cohort}


def merge_truths(parts: Iterable[Truths]) -> Truths:
    """The truth of the rows of all parts."""
    merged = dict.fromkeys(("all", *COHORT_NAMES), Truth())
    for part in parts:
        merged = {name: merged[name] + part[name] for name in merged}
    return merged


def measure_truth(parameters: SyntheticAds, split: str, *, shard: int = 0, num_shards: int = 1) -> Truths:
    """The truth of a split's rows, or of a shard of them; that of all shards, merged, is the split's."""
    rows = generate(parameters, split, shard=shard, num_shards=num_shards)
    return merge_truths(truths_of(parameters, columns, probability) for columns, probability in rows)
