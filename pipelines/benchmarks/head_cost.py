"""The cost of cohort heads in a training step: two, and ten, beside the baseline's step without any; and of their form.

Two DHEN blocks, 26 fields of dimension 16, k = 8, batch 4,096, heads of 64 units, row-wise Adagrad on a table of
100,000 rows; the three steps take turns. Then the steps that Keras's `fit` compiles, with and without XLA: two heads
beside the same model (`with_cohort_heads`), and in one graph with it (`add_cohort_heads`). Last, the ranking and the
DCN model of TFRS's tutorials, each with two cohort tasks beside it and without, by the steps of Keras 2's `fit`.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from c2al_tf.config import ModelConfig

from .contenders import Contender, Worker, worker_command
from .dhen_peak import BATCH, draw_rows, new_schema, timed, training_step
from .results import Result, alternate, compare

NAME = "head_cost"
MOST = {2: 1.05, 10: 1.12}
"""Most times the baseline's step that a step may take, by the number of heads."""
MOST_BESIDE = 1.02
"""Most times the step in one graph that a step with the heads beside the model may take."""
HIDDEN_UNITS = (64,)
TFRS_GOAL = 0.95
"""Least of the rate of a `tfrs.Model` that is left with two cohort tasks."""
TFRS_BATCH = 8192
TFRS_MODELS = ("ranking", "DCN")
TFRS_HEADS = {"linear": (), "of 16 units": (16,), "of 64 units": (64,)}


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
    for model in TFRS_MODELS:
        yield from _beside_tfrs(model, 64 if quick else TFRS_BATCH, rounds, None if quick else TFRS_GOAL)


def _beside_tfrs(model: str, batch: int, rounds: int, goal: float | None) -> Iterator[Result]:
    """Rows per second with two cohort tasks beside those of the model alone, each in a process of its own."""
    kinds = {"alone": None, **TFRS_HEADS}
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(
                Worker(
                    Contender(
                        name,
                        "no XLA",
                        worker_command("tfrs_tutorials"),
                        {"model": model, "batch_size": batch, "hidden_units": hidden_units},
                        environment={"TF_USE_LEGACY_KERAS": "1"},
                    )
                )
            )
            for name, hidden_units in kinds.items()
        }
        for worker in workers.values():
            worker.answer()
        measurements = alternate({name: partial(_rate, worker, batch) for name, worker in workers.items()}, rounds)
    for name in TFRS_HEADS:
        case = f"TFRS's {model} tutorial, 2 cohort tasks, {name}, batch {batch:,}"
        alone = measurements["alone"]
        yield Result.of(NAME, case, measurements[name], alone, peer_name="the model alone", unit="rows/s", goal=goal)


def _rate(worker: Worker, batch: int, steps: int = 20) -> float:
    return steps * batch / worker.run(steps)["seconds"]


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
        model = with_cohort_heads(base, h, names, weight=0.1, hidden_units=HIDDEN_UNITS)
        model.compile(loss={"primary": loss}, **form)
    else:
        model = add_cohort_heads(base, h, names, hidden_units=HIDDEN_UNITS)
        weights = {"primary": 1.0} | dict.fromkeys(names, 0.1)
        model.compile(loss=dict.fromkeys(weights, loss), loss_weights=weights, **form)
    batches = tf.data.Dataset.from_tensors(draw_rows(schema, ["primary", *names], batch)).repeat()
    model.fit(batches, steps_per_epoch=1, verbose=0)  # builds all of it
    endless = iter(batches)
    return timed(lambda: model.train_function(endless)["loss"])
