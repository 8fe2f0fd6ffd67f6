"""How good one model's logits are on some rows: log loss, NE, AUC and calibration, with NumPy alone."""

from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
from scipy.special import expit, xlogy

from .types import Array

Metrics: TypeAlias = dict[str, int | float | None]
"""Figures of one model on one slice; None where a figure is not defined."""


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

    Example:
        >>> figures = slice_metrics(np.zeros(4), np.array([0, 1, 0, 1]))
        >>> figures["rows"], figures["positives"], figures["ne"], figures["auc"], figures["calibration"]
        (4, 2, 1.0, 0.5, 1.0)

    References:
        He et al. 2014, Practical Lessons from Predicting Clicks on Ads at Facebook, section 3.
    """
    rows = Rows.check(labels, weights)
    model = ScoredModel.score(rows.check_logits(logits, "`logits`"), rows)
    return model.metrics(np.arange(len(rows.labels)))


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
class ScoredModel:
    """One model's rows by rising logit: sorted once, and every slice of them is sorted too."""

    order: Array
    logits: Array
    labels: Array
    weights: Array
    losses: Array  # weighted
    predictions: Array  # weighted

    @classmethod
    def score(cls, logits: Array, rows: Rows) -> Self:
        """Takes the kept rows' logits, `(kept,)` float64."""
        order = np.argsort(logits, kind="stable")
        z, y, w = logits[order], rows.labels[order], rows.weights[order]
        return cls(order, z, y, w, w * (np.logaddexp(0.0, z) - y * z), w * expit(z))

    def metrics(self, places: Array) -> Metrics:
        """Figures of the rows at increasing `places` in this order."""
        z, y, w = self.logits[places], self.labels[places], self.weights[places]
        rows, positives = len(places), int(np.count_nonzero(y))
        total, positive = float(w.sum()), float(w @ y)
        metrics: Metrics = {"rows": rows, "positives": positives}
        metrics |= dict.fromkeys(("ne", "log_loss", "auc", "calibration"))
        if rows > 0:
            log_loss = float(self.losses[places].sum()) / total
            metrics["log_loss"] = log_loss
        if positives > 0:
            metrics["calibration"] = float(self.predictions[places].sum()) / positive
        if 0 < positives < rows:
            rate, rest = positive / total, (total - positive) / total
            metrics["ne"] = log_loss / float(-xlogy(rate, rate) - xlogy(rest, rest))
            metrics["auc"] = _auc(z, y, w)
        return metrics


def _auc(z: Array, y: Array, w: Array) -> float:
    """The area under the ROC curve of rows by rising logit; equal logits count half."""
    ends = np.append(np.flatnonzero(z[1:] != z[:-1]), len(z) - 1)
    positives = np.diff(np.cumsum(w * y)[ends], prepend=0.0)
    negatives = np.cumsum(w * (1 - y))[ends]
    below = np.concatenate([[0.0], negatives[:-1]])
    return float(positives @ (below + negatives) / 2 / (positives.sum() * negatives[-1]))


def _flat(values: Array, name: str) -> Array:
    values = np.asarray(values)
    if values.shape[1:] not in ((), (1,)) or values.ndim == 0:
        raise ValueError(f"{name} must have shape (rows,) or (rows, 1). Received: {values.shape}")
    return values.reshape(-1).astype(np.float64)


def _raise_at(bad: Array, values: Array, rule: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{rule}. Received: {values[row]} in row {row}")
