import hashlib
import math

import keras
import numpy as np
import pytest

from c2al_tf.config import ModelConfig, TrainingConfig
from c2al_tf.data.dataset import make_dataset
from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.metrics import NormalizedEntropy
from c2al_tf.model import build_model
from c2al_tf.training import evaluate, make_optimizer, predict, train

CONFIG = ModelConfig(embedding_dim=4, num_outputs=2, attention_units=4, shared_units=(8,), head_units=(5,))
BATCH, STEPS = 64, 16


class KilledError(Exception):
    pass


class KillAt(keras.callbacks.Callback):
    """Ends the run in the middle of an epoch, as an error would."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__()
        self.place, self.epoch = (epoch, step), 0

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        if (self.epoch, batch) == self.place:
            raise KilledError


@pytest.fixture
def fit(small_schema, small_file, small_cohorts):
    def fit(*, lambdas=None, epochs=2, dropout=0.0, seed=0, mixed_precision=False, **arguments):
        cohorts = small_cohorts if lambdas is not None else ()
        config = ModelConfig(**{**vars(CONFIG), "dropout": dropout, "mixed_precision": mixed_precision})
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
            model, batches, weighted_sum_of_tasks(lambdas or {}), steps_per_epoch=STEPS, epochs=epochs, **arguments
        )
        return model, history

    return fit


@pytest.fixture
def rows_in_order(small_schema, small_file):
    return lambda: make_dataset(small_file, small_schema, BATCH)


def digest(model: keras.Model) -> str:
    values = [np.asarray(variable).tobytes() for variable in (*model.variables, *model.optimizer.variables)]
    return hashlib.sha256(b"".join(values)).hexdigest()


def test_learns_and_reports(fit, rows_in_order) -> None:
    _, history = fit(lambdas={"young": 0.3, "old": 0.3}, epochs=3, validation=rows_in_order)
    assert len(history.epochs) == 3
    last = history.epochs[-1]
    tasks = ("primary", "young", "old")
    assert set(last) == {"loss", "val_primary_loss", "val_primary_ne"} | {
        f"{t}_{m}" for t in tasks for m in ("loss", "ne")
    }
    assert last["val_primary_ne"] < 0.98 < history.epochs[0]["primary_ne"]
    expected = last["primary_loss"] + 0.3 * (last["young_loss"] + last["old_loss"])
    assert last["loss"] == pytest.approx(expected, rel=0.05)  # the last batch is smaller: means of batches and of rows


def test_same_seed_same_weights_to_the_bit(fit) -> None:
    runs = [fit(lambdas={"young": 0.3, "old": 0.3}, dropout=0.2) for _ in range(2)]
    assert digest(runs[0][0]) == digest(runs[1][0])
    assert digest(runs[0][0]) != digest(fit(lambdas={"young": 0.3, "old": 0.3}, dropout=0.2, seed=1)[0])


def test_mixed_precision_learns_with_float32_weights_and_logits(fit, rows_in_order) -> None:
    model, history = fit(mixed_precision=True, epochs=3, validation=rows_in_order)
    assert history.epochs[-1]["val_primary_ne"] < 0.99
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert {output.dtype for output in model.output.values()} == {"float32"}
    assert model.get_layer("block_0").compute_dtype == "bfloat16"


def test_auxiliary_weights_0_change_no_bit_of_the_primary(fit, rows_in_order) -> None:
    """Property 5."""
    baseline, _ = fit(jit_compile=False)
    zero, _ = fit(lambdas={"young": 0.0, "old": 0.0}, jit_compile=False)
    some, _ = fit(lambdas={"young": 0.3, "old": 0.3}, jit_compile=False)
    logits = [predict(model, rows_in_order(), 1000) for model in (baseline, zero, some)]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert np.abs(logits[0] - logits[2]).max() > 1e-2


def test_auxiliary_weights_0_with_xla_and_dropout(fit, rows_in_order) -> None:
    """Property 5: within rounding after a step."""
    arms = {"epochs": 1, "dropout": 0.2}
    logits = []
    for lambdas in (None, {"young": 0.0, "old": 0.0}):
        with pytest.raises(KilledError):
            fit(lambdas=lambdas, callbacks=[keep := Keep(), KillAt(0, 0)], **arms)
        logits.append(predict(keep.model, rows_in_order(), 1000))
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-5, atol=1e-6)


class Keep(keras.callbacks.Callback):
    """Keeps the model within reach."""


def test_resumed_training_ends_where_the_uninterrupted_one_does(fit, tmp_path, rows_in_order) -> None:
    """Property 10."""
    arguments = {"lambdas": {"young": 0.3, "old": 0.3}, "dropout": 0.2, "epochs": 3}
    whole, expected = fit(**arguments)
    resumable = arguments | {"checkpoint": tmp_path / "checkpoint.npz", "checkpoint_steps": 5}
    for place in ((0, 14), (1, 9), (2, 12)):
        with pytest.raises(KilledError):
            fit(callbacks=[KillAt(*place)], **resumable)
    resumed, history = fit(**resumable)
    assert digest(resumed) == digest(whole)
    assert history.epochs == expected.epochs
    again, _ = fit(**resumable)
    assert digest(again) == digest(whole)


def test_resume_reads_the_checkpoint(fit, tmp_path) -> None:
    path = tmp_path / "checkpoint.npz"
    fit(checkpoint=path)
    with pytest.raises(ValueError, match=r"checkpoint.npz: the checkpoint is of another model or optimizer"):
        fit(checkpoint=path, lambdas={"young": 0.3, "old": 0.3})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"checkpoint.npz: the checkpoint is damaged .* Remove it to train"):
        fit(checkpoint=path)


def test_patience_returns_to_the_best_epoch(fit, rows_in_order, tmp_path) -> None:
    arguments = {"epochs": 40, "validation": rows_in_order, "patience": 2, "checkpoint": tmp_path / "c.npz"}
    model, history = fit(callbacks=[Spoil(at_epoch=3)], **arguments)
    values = [epoch["val_primary_ne"] for epoch in history.epochs]
    best = int(np.argmin(values))
    assert len(values) == best + 3 < 40
    assert evaluate(model, rows_in_order())["primary_ne"] == pytest.approx(values[best], rel=1e-6)


class Spoil(keras.callbacks.Callback):
    """From an epoch on, shifts every weight of the primary head, so that later epochs are worse."""

    def __init__(self, at_epoch: int) -> None:
        super().__init__()
        self.at_epoch = at_epoch
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        if self.epoch >= self.at_epoch and batch == STEPS - 1:
            weight = self.model.get_layer("task_primary").logit.bias
            weight.assign(weight + 5.0)


def test_callbacks_are_driven(fit, rows_in_order, tmp_path) -> None:
    seen: list[str] = []
    record = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: seen.append("begin"),
        on_epoch_end=lambda epoch, logs: seen.append(f"epoch {epoch} {'val_primary_ne' in logs}"),
        on_train_end=lambda logs: seen.append("end"),
    )
    board = keras.callbacks.TensorBoard(str(tmp_path / "board"), write_graph=False)
    stop = keras.callbacks.EarlyStopping("val_primary_ne", mode="min", patience=0, min_delta=10.0)
    fit(epochs=5, validation=rows_in_order, callbacks=[record, board, stop])
    assert seen == ["begin", "epoch 0 True", "epoch 1 True", "end"]
    assert list((tmp_path / "board").rglob("events*"))


def test_evaluate_agrees_with_the_metric(fit, rows_in_order) -> None:
    model, _ = fit()
    metric = NormalizedEntropy()
    for x, y, weight in rows_in_order():
        metric.update_state(y["primary"], model(x)["primary"], weight)
    figures = evaluate(model, rows_in_order())
    assert figures["primary_ne"] == pytest.approx(float(metric.result()), rel=1e-5)


def test_predict_leaves_padding_out(fit, rows_in_order) -> None:
    model, _ = fit(epochs=1)
    logits = predict(model, rows_in_order(), 1000)
    assert logits.shape == (1000,)
    x = next(iter(rows_in_order()))[0]
    np.testing.assert_allclose(logits[:BATCH], np.asarray(model(x)["primary"])[:, 0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="`batches` must hold `num_rows` rows. Received: 1024 rows, num_rows=2000"):
        predict(model, rows_in_order(), 2000)


def test_zero_weight_rows_change_nothing(fit, small_schema, small_rows, tmp_path) -> None:
    """Property 8: the padding of the last batch, whose rows have weight 0, is not seen by loss or metrics."""
    figures = []
    for size in (64, 125):  # 1,000 rows: with and without a padded batch
        figures.append(
            evaluate(fit(epochs=1)[0], make_dataset(_file(tmp_path, small_schema, small_rows), small_schema, size))
        )
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)


def _file(folder, schema, small_rows):
    from c2al_tf.data.shards import write_parquet

    write_parquet(folder / "rows.parquet", [small_rows(1000, seed=5)], schema.columns)
    return folder / "rows.parquet"


def test_too_few_batches(fit, small_schema, small_file) -> None:
    model = build_model(small_schema, CONFIG)
    model.compile(optimizer="adam")
    with pytest.raises(ValueError, match=r"Epoch 0 must have `steps_per_epoch` batches. Received: 16 of 20"):
        train(
            model,
            lambda epoch, skip: make_dataset(small_file, small_schema, BATCH),
            weighted_sum_of_tasks(),
            steps_per_epoch=20,
        )


def test_a_loss_that_is_not_finite(small_schema, small_file) -> None:
    model = build_model(small_schema, CONFIG)
    model.compile(optimizer="adam")
    model.get_layer("task_primary").logit.bias.assign([math.nan])
    with pytest.raises(
        ValueError, match=r"The loss must be finite\. Received: nan at epoch 0, step 0. Lower the learning"
    ):
        train(
            model,
            lambda epoch, skip: make_dataset(small_file, small_schema, BATCH),
            weighted_sum_of_tasks(),
            steps_per_epoch=16,
        )


def test_patience_without_validation(fit) -> None:
    with pytest.raises(ValueError, match="`patience` needs `validation` rows, for `val_primary_ne`"):
        fit(patience=1)


def test_decay() -> None:
    optimizer = make_optimizer(TrainingConfig(learning_rate=0.5), 10)
    optimizer.build([keras.Variable(0.0)])
    optimizer.iterations.assign(5)
    assert float(optimizer.learning_rate) == pytest.approx(0.25)
    optimizer.iterations.assign(10)
    assert float(optimizer.learning_rate) == pytest.approx(0.0, abs=1e-7)
    constant = make_optimizer(TrainingConfig(learning_rate=0.5, decay="constant"), 10)
    assert float(constant.learning_rate) == 0.5
