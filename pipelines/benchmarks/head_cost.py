"""The cost of cohort heads in a training step: two, and ten, beside the baseline's step without any.

Two DHEN blocks, 26 fields of dimension 16, k = 8, batch 4,096, heads of 64 units, row-wise Adagrad on a table of
100,000 rows; the three steps take turns.
"""

from collections.abc import Iterator

from c2al_tf.config import ModelConfig

from .dhen_peak import BATCH, training_step
from .results import Result, alternate

NAME = "head_cost"
MOST = {2: 1.05, 10: 1.12}
"""Most times the baseline's step that a step may take, by the number of heads."""


def run(quick: bool) -> Iterator[Result]:
    """Milliseconds of a step with heads beside those of the baseline's."""
    batch, rounds = (64, 1) if quick else (BATCH, 25)
    steps = {str(heads): training_step(ModelConfig(), batch, heads) for heads in (0, *MOST)}
    measurements = alternate(steps, rounds)
    for heads, most in MOST.items():
        ours, baseline = measurements[str(heads)], measurements["0"]
        yield Result.of(
            NAME,
            f"{heads} cohort heads, batch {batch:,}",
            ours,
            baseline,
            peer_name="baseline",
            unit="ms",
            goal=None if quick else 1 / most,
        )
