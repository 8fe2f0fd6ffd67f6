"""A small model, trained on a small file."""

import dataclasses
import hashlib

import keras
import numpy as np
import pytest

from c2al_tf.config import ModelConfig, TrainingConfig
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.model import build_model
from c2al_tf.training import make_optimizer, train

CONFIG = ModelConfig(backbone="mlp", embedding_dim=4, num_blocks=1, shared_units=(8,), head_units=(5,))
"""Traced more quickly than a DHEN, which says no more about the loop."""
BATCH, STEPS = 64, 16


@pytest.fixture(scope="session")
def fit(small_schema, small_file, small_cohorts):
    """Trains a model; with XLA where a test is about it, as XLA compiles for longer than all steps take."""

    def fit(*, lambdas=None, epochs=2, dropout=0.0, seed=0, model=CONFIG, **arguments):
        cohorts = small_cohorts if lambdas is not None else ()
        config = dataclasses.replace(model, dropout=dropout)
        keras.utils.set_random_seed(seed)
        model = build_model(small_schema, config, cohorts=[cohort.name for cohort in cohorts])
        model.compile(optimizer=make_optimizer(TrainingConfig(learning_rate=1e-2), STEPS * epochs))

        def batches(epoch: int, skip: int):
            return make_dataset(
                small_file,
                small_schema,
                BATCH,
                cohorts=cohorts,
                shuffle=True,
                seed=seed,
                epoch=epoch,
                skip_batches=skip,
            )

        history = train(
            model,
            batches,
            weighted_sum_of_tasks(lambdas or {}),
            epochs=epochs,
            **({"steps_per_epoch": STEPS, "jit_compile": False} | arguments),
        )
        return model, history

    return fit


@pytest.fixture(scope="session")
def rows_in_order(small_schema, small_file):
    return lambda: make_dataset(small_file, small_schema, BATCH)


@pytest.fixture(scope="session")
def digest():
    """Hash of every variable of a model and its optimizer."""

    def digest(model: keras.Model) -> str:
        values = [np.asarray(variable).tobytes() for variable in (*model.variables, *model.optimizer.variables)]
        return hashlib.sha256(b"".join(values)).hexdigest()

    return digest
