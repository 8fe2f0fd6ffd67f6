import dataclasses
import math

import numpy as np
import pytest

from c2al_tf.config import ModelConfig, TrainingConfig


def test_defaults_keep_the_rules() -> None:
    assert ModelConfig() == ModelConfig(16, 2, "attentive", 8, 32, 8, (64,), (64,), 0.0, False, "dhen", 2, 0.0)
    assert TrainingConfig() == TrainingConfig(
        1024, 1, 1e-3, "cosine", None, "auto", None, 1000, 3, 1, "adam", None, None
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding_dim": 0}, r"`embedding_dim` must be at least 1\. Received: embedding_dim=0"),
        ({"num_blocks": 0}, r"`num_blocks` must be at least 1\. Received: num_blocks=0"),
        ({"num_outputs": -1}, r"`num_outputs` must be at least 1\. Received: num_outputs=-1"),
        ({"attention_units": 0}, r"`attention_units` must be at least 1\. Received: attention_units=0"),
        ({"attention_heads": 0}, r"`attention_heads` must be at least 1\. Received: attention_heads=0"),
        ({"backbone": "dlrm"}, r"`backbone` must be one of 'dhen', 'mlp', .* Received: backbone='dlrm'"),
        ({"density_penalty": -1.0}, r"`density_penalty` must be finite and at least 0\. .*density_penalty=-1\.0"),
        ({"density_penalty": math.nan}, r"`density_penalty` must be finite and at least 0\. .*density_penalty=nan"),
        (
            {"density_penalty": 1.0, "backbone": "mlp"},
            r"`density_penalty` must be 0 for backbone='mlp'\. Received: density_penalty=1\.0",
        ),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\)\. Received: dropout=1\.0"),
        ({"dropout": -0.1}, r"`dropout` must be in \[0, 1\)\. Received: dropout=-0\.1"),
        ({"dropout": math.nan}, r"`dropout` must be in \[0, 1\)\. Received: dropout=nan"),
        ({"mixing_outputs": -1}, r"`mixing_outputs` must be at least 0\. Received: mixing_outputs=-1"),
        ({"head_units": (8, 0)}, r"`head_units` must be at least 1 each\. Received: head_units=\(8, 0\)"),
        ({"shared_units": (8.5,)}, r"`shared_units` must be a tuple, each item a whole number\. .*=\(8\.5,\)"),
        ({"shared_units": 8}, r"`shared_units` must be a tuple, each item a whole number\. Received: shared_units=8"),
        ({"attention": "static "}, r"`attention` must be one of 'attentive', 'static'\. Received: attention='static '"),
        ({"num_blocks": 1.0}, r"`num_blocks` must be a whole number\. Received: num_blocks=1\.0"),
        ({"mixed_precision": "no"}, r"`mixed_precision` must be true or false\. Received: mixed_precision='no'"),
        ({"shared_units": ()}, r"`shared_units` must be at least one layer .* Received: shared_units=\(\)"),
    ],
)
def test_model_rules(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, r"`batch_size` must be at least 1\. Received: batch_size=0"),
        ({"epochs": 0}, r"`epochs` must be at least 1\. Received: epochs=0"),
        ({"checkpoint_steps": 0}, r"`checkpoint_steps` must be at least 1\. Received: checkpoint_steps=0"),
        ({"learning_rate": 0.0}, r"`learning_rate` must be finite and above 0\. Received: learning_rate=0\.0"),
        ({"learning_rate": math.nan}, r"`learning_rate` must be finite and above 0\. Received: learning_rate=nan"),
        ({"keep_checkpoints": 0}, r"`keep_checkpoints` must be at least 1\. Received: keep_checkpoints=0"),
        ({"steps_per_execution": 0}, r"`steps_per_execution` must be at least 1\. Received: steps_per_execution=0"),
        (
            {"table_optimizer": "lazy_adam", "table_learning_rate": 0.0},
            r"`table_learning_rate` must be finite and above 0, or null\. Received: table_learning_rate=0\.0",
        ),
        (
            {"table_learning_rate": 0.1},
            r"`table_learning_rate` must be null without `table_optimizer`\. Received: table_learning_rate=0\.1",
        ),
        ({"decay": "linear"}, r"`decay` must be one of 'cosine', 'constant'\. Received: decay='linear'"),
        ({"optimizer": "sgd"}, r"`optimizer` must be one of 'adam', 'adagrad'\. Received: optimizer='sgd'"),
        (
            {"table_optimizer": "sgd"},
            r"`table_optimizer` must be one of 'lazy_adam', 'adagrad', 'row_wise_adagrad' or None\. Received: .*'sgd'",
        ),
        ({"batch_size": True}, r"`batch_size` must be a whole number\. Received: batch_size=True"),
        ({"epochs": "3"}, r"`epochs` must be a whole number\. Received: epochs='3'"),
        ({"clip_norm": 0.0}, r"`clip_norm` must be finite and above 0, or null\. Received: clip_norm=0\.0"),
        ({"learning_rate": math.inf}, r"`learning_rate` must be finite and above 0\. Received: learning_rate=inf"),
        ({"patience": 0}, r"`patience` must be at least 1, or null\. Received: patience=0"),
    ],
)
def test_training_rules(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**change)


def test_the_edges_of_the_rules_are_allowed() -> None:
    ModelConfig(embedding_dim=1, num_blocks=1, num_outputs=1, attention_units=1, mixing_outputs=0, head_units=())
    TrainingConfig(batch_size=1, learning_rate=1e-9, patience=1, checkpoint_steps=1)
    TrainingConfig(batch_size=np.int64(8), learning_rate=1, clip_norm=np.float32(0.5))


@pytest.mark.parametrize("config", [ModelConfig(), TrainingConfig()])
def test_values_are_frozen_and_hashable(config) -> None:
    assert hash(config) == hash(dataclasses.replace(config))
    name = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, 3)
