"""Keras 3 under TensorFlow: plain, with keras-rs's cross layer, or ours; each with an optimizer by name."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from .problem import NUM_DENSE, Batch, Problem, draw_batches
from .serving import Built, repeat_batches, serve


def build(spec: dict[str, Any]) -> Built:
    """One model with one optimizer.

    Args:
        spec: `problem`; `model`, a name of `MODELS`; `optimizer` with its `arguments`; `mode`, `"XLA"` or
            `"no XLA"`.
    """
    keras.utils.set_random_seed(0)
    problem = Problem.from_json(spec["problem"])
    batches = draw_batches(problem)
    model = MODELS[spec["model"]](problem)
    model.compile(_optimizer(spec["optimizer"], problem.learning_rate, **spec.get("arguments", {})))
    model.optimizer.build(model.trainable_variables)
    compiled, feed = (_our_step, _our_feed) if spec["model"] == "our DCN-V2" else (_keras_step, _keras_feed)
    fed = [feed(problem, batch) for batch in batches]
    step = compiled(model, spec["mode"] == "XLA")
    return Built(repeat_batches(step, fed), model.count_params())


def _mlp(problem: Problem) -> keras.Model:
    inputs, embeddings = _one_table(problem)
    x = layers.Dense(problem.hidden, activation="relu")(layers.Flatten()(embeddings))
    return keras.Model(inputs, layers.Dense(1)(x))


def _keras_dcn(problem: Problem) -> keras.Model:
    return _dcn(problem, _one_table, lambda: _LowRankCross(problem.projection))


def _keras_rs_dcn(problem: Problem) -> keras.Model:
    import keras_rs

    return _dcn(problem, _one_table, lambda: keras_rs.layers.FeatureCross(projection_dim=problem.projection))


def _our_dcn(problem: Problem) -> keras.Model:
    return _dcn(problem, _field_embedding, lambda: _LowRankCross(problem.projection))


MODELS: Mapping[str, Callable[[Problem], keras.Model]] = {
    "MLP": _mlp,
    "DCN-V2": _keras_dcn,
    "keras-rs DCN-V2": _keras_rs_dcn,
    "our DCN-V2": _our_dcn,
}


def _dcn(problem: Problem, embed: Callable[..., Any], make_cross: Callable[[], keras.layers.Layer]) -> keras.Model:
    """DCN-V2 as TFRS's ranking model has it: the crosses take all features, the top takes the dense ones once more."""
    inputs, embeddings = embed(problem)
    inputs["dense_features"] = d = keras.Input((NUM_DENSE,), name="dense_features")
    for units in problem.bottom:
        d = layers.Dense(units, activation="relu")(d)
    x0 = x = layers.Concatenate()([layers.Flatten()(embeddings), d])
    for _ in range(problem.num_crosses):
        x = make_cross()(x0, x)
    x = layers.Concatenate()([d, x])
    for units in problem.top:
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, {"primary": layers.Dense(1)(x)})


def _one_table(problem: Problem) -> tuple[dict[str, Any], Any]:
    ids = keras.Input((problem.num_fields,), dtype="int32", name="ids")
    return {"ids": ids}, layers.Embedding(problem.table_rows, problem.dim)(ids)


def _field_embedding(problem: Problem) -> tuple[dict[str, Any], Any]:
    from c2al_tf.layers import FieldEmbedding

    names = [f"field_{number}" for number in range(problem.num_fields)]
    inputs = {name: keras.Input((), dtype="int32", name=name) for name in names}
    return inputs, FieldEmbedding(dict.fromkeys(names, problem.rows_per_field), problem.dim)(inputs)


class _LowRankCross(layers.Layer):
    """DCN-V2's cross layer: x0 * (U V x + b) + x."""

    def __init__(self, projection: int) -> None:
        super().__init__()
        self.projection = projection

    def build(self, x0_shape: Any, x_shape: Any) -> None:
        self.down = layers.Dense(self.projection, use_bias=False)
        self.up = layers.Dense(x_shape[-1])
        self.down.build(x_shape)
        self.up.build((*x_shape[:-1], self.projection))

    def call(self, x0: Any, x: Any) -> Any:
        return x0 * self.up(self.down(x)) + x


def _optimizer(name: str, learning_rate: float, **arguments: Any) -> keras.optimizers.Optimizer:
    if name in ("RowWiseAdagrad", "SparseAdagrad", "LazyAdam"):
        from c2al_tf import optimizers as ours

        return getattr(ours, name)(learning_rate, **arguments)
    return getattr(keras.optimizers, name)(learning_rate, **arguments)


def _keras_step(model: keras.Model, jit_compile: bool) -> Callable[..., Any]:
    """What `fit` does in a step, without its metrics."""
    loss_function = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function(jit_compile=jit_compile)
    def step(x: Any, label: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = keras.tree.flatten(model({name: x[name] for name in model.input}, training=True))
            loss = loss_function(label, logits[0])
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        return loss

    return step


def _keras_feed(problem: Problem, batch: Batch) -> tuple[Any, ...]:
    x = {"ids": tf.constant(batch.ids), "dense_features": tf.constant(batch.dense)}
    return x, tf.constant(batch.label[:, None])


def _our_step(model: keras.Model, jit_compile: bool) -> Callable[..., Any]:
    """`c2al_tf`'s own step, which also sums the log loss, the labels and the weights of the batch."""
    from c2al_tf.losses import weighted_sum_of_tasks
    from c2al_tf.training import compile_step

    step = compile_step(model, weighted_sum_of_tasks({"primary": 1.0}), jit_compile)
    return lambda *batch: step(*batch)[0]


def _our_feed(problem: Problem, batch: Batch) -> tuple[Any, ...]:
    ids = np.ascontiguousarray((batch.ids % problem.rows_per_field).T)
    x = {f"field_{number}": tf.constant(ids[number]) for number in range(problem.num_fields)}
    label = {"primary": tf.constant(batch.label[:, None])}
    return x | {"dense_features": tf.constant(batch.dense)}, label, tf.ones(problem.batch_size)


if __name__ == "__main__":
    serve(build)
