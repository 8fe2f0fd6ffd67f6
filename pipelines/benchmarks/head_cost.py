"""The cost of cohort heads in a training step: two, and ten, beside the baseline's step without any; and of their form.

Two DHEN blocks, 26 fields of dimension 16, k = 8, batch 4,096, heads of 64 units, row-wise Adagrad on a table of
100,000 rows; the three steps take turns. Then the steps that Keras's `fit` compiles, with and without XLA: two heads
beside the same model (`with_cohort_heads`), and in one graph with it (`add_cohort_heads`).
"""

from collections.abc import Callable, Iterator
from typing import Any

from c2al_tf.config import ModelConfig

from .dhen_peak import BATCH, draw_rows, new_schema, timed, training_step
from .results import Result, alternate, compare

NAME = "head_cost"
MOST = {2: 1.05, 10: 1.12}
"""Most times the baseline's step that a step may take, by the number of heads."""
MOST_BESIDE = 1.02
"""Most times the step in one graph that a step with the heads beside the model may take."""


def run(quick: bool) -> Iterator[Result]:
    """Milliseconds of a step with heads beside those of the baseline's, and of one form beside the other's."""
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
    for xla in (True, False):
        yield compare(
            NAME,
            f"heads beside the model, {'XLA' if xla else 'without XLA'}, batch {batch:,}",
            fitting_step(batch, beside=True, xla=xla),
            fitting_step(batch, beside=False, xla=xla),
            rounds=rounds,
            peer_name="in one graph",
            unit="ms",
            goal=None if quick else 1 / MOST_BESIDE,
        )


def fitting_step(batch: int, *, beside: bool, xla: bool) -> Callable[[], float]:
    """A model with two heads in one of both forms; each call fits a few batches and returns the milliseconds of one."""
    import keras
    import tensorflow as tf

    from c2al_tf.cohort_model import with_cohort_heads
    from c2al_tf.model import add_cohort_heads, build_model
    from c2al_tf.optimizers import RowWiseAdagrad

    schema, names = new_schema(), ["cohort_0", "cohort_1"]
    keras.utils.set_random_seed(0)
    base = build_model(schema, ModelConfig())
    h = base.get_layer("task_primary").input
    form: dict[str, Any] = {"optimizer": RowWiseAdagrad(learning_rate=0.01), "jit_compile": xla}
    loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    if beside:
        model = with_cohort_heads(base, h, names, weight=0.1)
        model.compile(loss={"primary": loss}, **form)
    else:
        model = add_cohort_heads(base, h, names)
        weights = {"primary": 1.0} | dict.fromkeys(names, 0.1)
        model.compile(loss=dict.fromkeys(weights, loss), loss_weights=weights, **form)
    batches = tf.data.Dataset.from_tensors(draw_rows(schema, ["primary", *names], batch)).repeat()
    model.fit(batches, steps_per_epoch=1, verbose=0)  # builds all of it
    endless = iter(batches)
    return timed(lambda: model.train_function(endless)["loss"])
