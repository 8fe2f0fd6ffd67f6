"""How good one model's logits are on some rows: log loss, NE, AUC and calibration, with NumPy alone."""

from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from scipy.special import expit

from ..entropy import log_loss, normalized_entropy
from ..types import Array

Metrics: TypeAlias = dict[str, int | float | None]
"""Figures of one model on one slice; None where a figure is not defined."""

NUM_SCORES = 16_384
"""Buckets of `score_buckets`."""

_MAX_SCORE = 16.0


def slice_metrics(logits: Array, labels: Array, weights: Array | None = None) -> Metrics:
    """Figures of one model on some rows.

        log_loss    = mean of log(1 + exp(z)) - y z                     z the logit, y the label
        ne          = log_loss / entropy of the mean label              None if all labels are equal
        auc         = P(z_positive > z_negative) + P(equal) / 2         None if all labels are equal
        calibration = mean of sigmoid(z) / mean label                   None without a positive

    Means are weighted. `rows` and `positives` count the rows whose weight is above 0; other rows change nothing.

    Args:
        logits: `(rows,)` or `(rows, 1)`, finite.
        labels: The same rows, in {0, 1}.
        weights: The same rows, at least 0; all 1 if not given.

    Raises:
        ValueError: If a shape differs, a logit is not finite, a label is neither 0 nor 1, or a weight is negative.

    Examples:
        >>> figures = slice_metrics(np.zeros(4), np.array([0, 1, 0, 1]))
        >>> figures["rows"], figures["positives"], figures["ne"], figures["auc"], figures["calibration"]
        (4, 2, 1.0, 0.5, 1.0)

    References:
        He et al. 2014, Practical Lessons from Predicting Clicks on Ads at Facebook, section 3.
    """
    rows = Rows.check(labels, weights)
    z = rows.check_logits(logits, "`logits`")
    sums = SliceSums(
        len(z),
        int(np.count_nonzero(rows.labels)),
        float(rows.weights.sum()),
        float(rows.weights @ rows.labels),
        float(log_losses(z, rows).sum()),
        float((rows.weights * expit(z)).sum()),
    )
    return sums.metrics(auc(z, rows.labels, rows.weights))


@dataclass(frozen=True)
class Rows:
    """What every model is scored against: the rows whose weight is above 0.

    Args:
        labels: `(kept,)` in {0, 1}, float64.
        weights: `(kept,)` above 0, float64.
        kept: `(rows,)` mask of the rows given.
    """

    labels: Array
    weights: Array
    kept: Array

    @classmethod
    def check(cls, labels: Array, weights: Array | None = None) -> Self:
        """Takes labels and weights of shape (rows,) or (rows, 1); raises ValueError where one breaks a rule."""
        y = _flat(labels, "`labels`")
        w = np.ones(len(y)) if weights is None else _flat(weights, "`weights`")
        if len(w) != len(y):
            raise ValueError(f"`weights` must have one value per label. Received: {len(w)} for {len(y)} labels")
        _raise_at(~((w >= 0) & np.isfinite(w)), w, "`weights` must be finite and at least 0")
        kept = w > 0
        _raise_at(kept & (y != 0) & (y != 1), y, "`labels` must be 0 or 1")
        return cls(y[kept], w[kept], kept)

    def check_logits(self, logits: Array, name: str) -> Array:
        """Maps logits (rows,) or (rows, 1) to (kept,), the kept rows; `name` is for the error if one is bad."""
        z = _flat(logits, name)
        if len(z) != len(self.kept):
            raise ValueError(f"{name} must have one value per label. Received: {len(z)} for {len(self.kept)} labels")
        _raise_at(self.kept & ~np.isfinite(z), z, f"{name} must be finite")
        return z[self.kept]


@dataclass(frozen=True)
class SliceSums:
    """What one model's figures on a slice follow from, but for the AUC; sums over rows, weighted but for the counts.

    Args:
        rows: Number of rows.
        positives: Number of rows with label 1.
        weight: Sum of the weights.
        positive_weight: The same over rows with label 1.
        log_loss: Sum of the log losses.
        prediction: Sum of the predictions sigmoid(z).
    """

    rows: int
    positives: int
    weight: float
    positive_weight: float
    log_loss: float
    prediction: float

    def metrics(self, auc: float | None) -> Metrics:
        """The figures of `slice_metrics`."""
        metrics: Metrics = {"rows": self.rows, "positives": self.positives}
        metrics |= dict.fromkeys(("ne", "log_loss", "auc", "calibration"))
        if self.rows > 0:
            metrics["log_loss"] = self.log_loss / self.weight
        if self.positives > 0:
            metrics["calibration"] = self.prediction / self.positive_weight
        if 0 < self.positives < self.rows:
            metrics["ne"] = normalized_entropy(self.log_loss, self.positive_weight, self.weight)
            metrics["auc"] = auc
        return metrics


def log_losses(logits: Array, rows: Rows) -> Array:
    """Maps the kept rows' logits (kept,) to their weighted log losses (kept,)."""
    return rows.weights * log_loss(rows.labels, logits)


def auc(logits: Array, labels: Array, weights: Array) -> float | None:
    """The area under the ROC curve, arguments (rows,); equal logits count half. None if all labels are equal."""
    order = np.argsort(logits, kind="stable")
    z, y, w = logits[order], labels[order], weights[order]
    if len(y) == 0 or y.min() == y.max():
        return None
    ends = np.append(np.flatnonzero(z[1:] != z[:-1]), len(z) - 1)
    positives = np.diff(np.cumsum(w * y)[ends], prepend=0.0)
    negatives = np.diff(np.cumsum(w * (1 - y))[ends], prepend=0.0)
    return histogram_auc(negatives, positives)[0]


def score_buckets(logits: Array, num_scores: int = NUM_SCORES) -> Array:
    """Maps logits (rows,) to `num_scores` buckets of equal width; those beyond -16 and 16 share the last ones."""
    scaled = (logits + _MAX_SCORE) * (num_scores / (2 * _MAX_SCORE))
    return np.clip(scaled, 0, num_scores - 1).astype(np.int64)


def histogram_auc(negatives: Array, positives: Array) -> tuple[float | None, float]:
    r"""The AUC of rows of which only the bucket of their score is known, and how far at most the exact one is away.

        auc   = sum_b P_b (N_<b + N_b / 2) / (P N)        P_b, N_b the weights of positives and negatives in bucket b
        error = sum_b P_b N_b / (2 P N)                   pairs within a bucket count half, and may count 0 or 1

    With `score_buckets` the bound is about 2e-4 where the logits spread over some units. Within a bucket the order is
    nearly chance, so that the true error is smaller still, the more so the more positives there are.

    Args:
        negatives: `(buckets,)` weight of the rows with label 0, by rising score.
        positives: `(buckets,)` weight of those with label 1.
    """
    pairs = float(positives.sum()) * float(negatives.sum())
    if pairs == 0:
        return None, 0.0
    below = np.cumsum(negatives) - negatives
    return float(positives @ (below + negatives / 2)) / pairs, float(positives @ negatives) / 2 / pairs


def _flat(values: Array, name: str) -> Array:
    values = np.asarray(values)
    if values.shape[1:] not in ((), (1,)) or values.ndim == 0:
        raise ValueError(f"{name} must have shape (rows,) or (rows, 1). Received: {values.shape}")
    return values.reshape(-1).astype(np.float64)


def _raise_at(bad: Array, values: Array, rule: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{rule}. Received: {values[row]} in row {row}")
