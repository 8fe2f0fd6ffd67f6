"""What users of tensorflow-recommenders have: Keras 2 (`tf_keras`), its optimizers, and TFRS's own ranking model.

Runs with TF_USE_LEGACY_KERAS=1 in the environment, without which tensorflow-recommenders 0.7.7 cannot be imported.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from .problem import Batch, Problem, draw_batches
from .serving import Built, repeat_batches, serve


def build(spec: dict[str, Any]) -> Built:
    """One model with one optimizer.

    Args:
        spec: `problem`; `model`, `"MLP"` or `"DCN-V2"`; `optimizer`, a name of `tf_keras.optimizers`; `mode`,
            `"XLA"` or `"no XLA"`.
    """
    tf_keras.utils.set_random_seed(0)
    problem = Problem.from_json(spec["problem"])
    loss, variables, feed = _MODELS[spec["model"]](problem)
    batches = [feed(batch) for batch in draw_batches(problem)]
    loss(*batches[0])  # creates the variables
    steps = repeat_batches(_step(loss, variables(), spec), batches)
    return Built(steps, sum(variable.shape.num_elements() for variable in variables()))


def _step(loss: Callable[..., Any], variables: list[Any], spec: dict[str, Any]) -> Callable[..., Any]:
    """`tfrs.Model.train_step`, without its metrics."""
    optimizer = getattr(tf_keras.optimizers, spec["optimizer"])(spec["problem"]["learning_rate"])

    @tf.function(jit_compile=spec["mode"] == "XLA")
    def step(x: Any, label: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(x, label)
        gradients = tape.gradient(value, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return value

    return step


def _mlp(problem: Problem) -> tuple[Callable[..., Any], Callable[[], list[Any]], Callable[[Batch], tuple[Any, ...]]]:
    model = tf_keras.Sequential(
        [
            tf_keras.Input((problem.num_fields,), dtype="int32"),
            tf_keras.layers.Embedding(problem.table_rows, problem.dim),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(problem.hidden, activation="relu"),
            tf_keras.layers.Dense(1),
        ]
    )
    entropy = tf_keras.losses.BinaryCrossentropy(from_logits=True)

    def loss(ids: Any, label: Any) -> Any:
        return entropy(label, model(ids, training=True))

    return (
        loss,
        lambda: model.trainable_variables,
        lambda batch: (tf.constant(batch.ids), tf.constant(batch.label[:, None])),
    )


def _ranking(
    problem: Problem,
) -> tuple[Callable[..., Any], Callable[[], list[Any]], Callable[[Batch], tuple[Any, ...]]]:
    """`tfrs.experimental.models.Ranking` with a table for each feature, as its `PartialTPUEmbedding` makes them."""
    import tensorflow_recommenders as tfrs

    names = [f"field_{number:02}" for number in range(problem.num_fields)]
    embedding = tf.tpu.experimental.embedding
    tables = {
        name: embedding.FeatureConfig(table=embedding.TableConfig(problem.rows_per_field, problem.dim, name=name))
        for name in names
    }
    model = tfrs.experimental.models.Ranking(
        embedding_layer=tfrs.experimental.layers.embedding.PartialTPUEmbedding(tables, None, size_threshold=None),
        bottom_stack=tfrs.layers.blocks.MLP([*problem.bottom], final_activation="relu"),
        feature_interaction=tf_keras.Sequential(
            [
                tf_keras.layers.Concatenate(),
                tfrs.layers.feature_interaction.MultiLayerDCN(problem.projection, problem.num_crosses),
            ]
        ),
        top_stack=tfrs.layers.blocks.MLP([*problem.top, 1], final_activation="sigmoid"),
        task=tfrs.tasks.Ranking(loss=tf_keras.losses.BinaryCrossentropy(reduction=tf_keras.losses.Reduction.NONE)),
    )

    def feed(batch: Batch) -> tuple[Any, ...]:
        ids = batch.ids % problem.rows_per_field
        sparse = {name: tf.constant(ids[:, number]) for number, name in enumerate(names)}
        return {"dense_features": tf.constant(batch.dense), "sparse_features": sparse}, tf.constant(batch.label)

    return lambda x, label: model.compute_loss((x, label), training=True), lambda: model.trainable_variables, feed


_MODELS = {"MLP": _mlp, "DCN-V2": _ranking}

if __name__ == "__main__":
    serve(build)
