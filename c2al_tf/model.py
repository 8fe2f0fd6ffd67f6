"""Models with one output per task: built from a schema, given cohort heads, stripped of them for serving."""

from collections.abc import Iterable, Mapping, Sequence

import keras

from .config import ModelConfig
from .layers import DHENBlock, FieldEmbedding, FieldMixing, FMAttention, TaskHead
from .schema import CategoricalFeature, NumericFeature, Schema
from .types import PRIMARY, Tensor

REPRESENTATION = "representation"
"""Name of the layer whose output `h` the task heads of `build_model` share."""


def build_model(
    schema: Schema,
    config: ModelConfig | None = None,
    *,
    cohorts: Iterable[str] = (),
    priors: Mapping[str, float] | None = None,
    primary: Sequence[str] = (PRIMARY,),
) -> keras.Model:
    """Builds the paper's model: field embeddings, DHEN blocks, a shared representation, one head per task.

    The shared layers and the primary heads are created first, so that after `keras.utils.set_random_seed(s)` they start
    from the same values with and without cohorts.

    Args:
        schema: The features; the model's inputs are `schema.inputs`.
        config: Sizes.
        cohorts: Names of the cohorts that get an auxiliary head each.
        priors: Share of positives by task, from which a head's bias starts.
        primary: Names of the primary tasks.

    Returns:
        A functional model from `{input: (batch,) or (batch, length)}` to logits `{task: (batch, 1)}`.
    """
    config = config or ModelConfig()
    priors = priors or {}
    dtype = "mixed_bfloat16" if config.mixed_precision else "float32"
    inputs = {
        name: keras.Input(
            () if column.length is None else (column.length,),
            dtype="float32" if column.dtype == "float32" else "int32",
            name=name,
        )
        for name, column in schema.inputs.items()
    }
    X = _field_embedding(schema, config.embedding_dim, dtype)(inputs)
    for index in range(config.num_blocks):
        X = _block(config, index, dtype)(X)
    h = keras.layers.Flatten(name="flatten", dtype=dtype)(X)
    *hidden, last = config.shared_units
    for index, units in enumerate(hidden):
        h = keras.layers.Dense(units, "relu", name=f"shared_{index}", dtype=dtype)(h)
    h = keras.layers.Dense(last, "relu", name=REPRESENTATION, dtype=dtype)(h)
    outputs = {
        task: TaskHead(config.head_units, priors.get(task), name=f"task_{task}", dtype=dtype)(h) for task in primary
    }
    model = keras.Model(inputs, outputs, name="c2al")
    cohorts = list(cohorts)
    return (
        add_cohort_heads(model, REPRESENTATION, cohorts, hidden_units=config.head_units, priors=priors, dtype=dtype)
        if cohorts
        else model
    )


def add_cohort_heads(
    model: keras.Model,
    representation: str | Tensor,
    cohorts: Iterable[str],
    *,
    hidden_units: Sequence[int] = (64,),
    priors: Mapping[str, float] | None = None,
    dtype: str | None = None,
) -> keras.Model:
    """Adds one auxiliary task head per cohort to any functional Keras model; its weights are shared, not copied.

    Args:
        model: A functional model. Its outputs are logits: one tensor (which becomes the output `primary`), or a dict of
            them by task.
        representation: The shared representation, (batch, units): a tensor of the model, or the name of the layer that
            makes it.
        cohorts: Names of the cohorts (`cohort.name`).
        hidden_units: Units of each head's hidden layers.
        priors: Share of positives `y * 1[x in cohort]` among all rows, by cohort, from which a head's bias starts.
        dtype: Keras dtype policy of the heads.

    Returns:
        A functional model with the same inputs and the outputs `{**primary tasks, cohort: (batch, 1)}`.

    Raises:
        ValueError: If a cohort has the name of another output, the representation is not found or not of shape
            (batch, units), or no cohort is given.
    """
    outputs = _outputs(model)
    cohorts = list(cohorts)
    taken = sorted({*outputs} & {*cohorts}) or sorted({name for name in cohorts if cohorts.count(name) > 1})
    if taken or not cohorts:
        raise ValueError(
            f"Every cohort needs a name that no other output has, and at least one is needed. Received: {cohorts}; "
            f"taken: {taken or sorted(outputs)}"
        )
    h = _representation(model, representation)
    for name in cohorts:
        head = TaskHead(hidden_units, (priors or {}).get(name), auxiliary=True, name=f"task_{name}", dtype=dtype)
        outputs[name] = head(h)
    return keras.Model(model.input, outputs, name=model.name)


def strip_auxiliary_heads(model: keras.Model) -> keras.Model:
    """Drops the outputs of auxiliary task heads, and with them every layer that only they used.

    Args:
        model: What `add_cohort_heads` or `build_model` returned, before or after training, saving and loading.

    Returns:
        A functional model with the same inputs and the primary outputs; the weights are shared, not copied.
    """
    kept = {task: output for task, output in _outputs(model).items() if not _is_auxiliary(output)}
    return keras.Model(model.input, kept, name=model.name)


def _field_embedding(schema: Schema, dim: int, dtype: str) -> FieldEmbedding:
    features = schema.features
    return FieldEmbedding(
        num_ids={feature.name: feature.num_ids for feature in features},
        dim=dim,
        values={f.name: f.value_input for f in features if isinstance(f, NumericFeature) and f.value_input},
        combiners={f.name: f.combiner for f in features if isinstance(f, CategoricalFeature) and f.length},
        shares={f.name: f.shares for f in features if isinstance(f, CategoricalFeature) and f.shares},
        name="field_embedding",
        dtype=dtype,
    )


def _block(config: ModelConfig, index: int, dtype: str) -> DHENBlock:
    interactions: list[keras.layers.Layer] = [
        FMAttention(config.num_outputs, config.attention, config.attention_units, name=f"fm_{index}", dtype=dtype)
    ]
    if config.mixing_outputs:
        interactions.append(FieldMixing(config.mixing_outputs, name=f"mixing_{index}", dtype=dtype))
    return DHENBlock(interactions, config.dropout, name=f"block_{index}", dtype=dtype)


def _outputs(model: keras.Model) -> dict[str, Tensor]:
    outputs = getattr(model, "output", None)
    if isinstance(outputs, dict):
        return dict(outputs)
    if keras.backend.is_keras_tensor(outputs):
        return {PRIMARY: outputs}
    raise ValueError(
        "The model must be functional, with one output or a dict of outputs by task. "
        f"Received: {type(model).__name__} with outputs {outputs!r:.200}"
    )


def _representation(model: keras.Model, representation: str | Tensor) -> Tensor:
    if isinstance(representation, str):
        names = [layer.name for layer in model.layers]
        if representation not in names:
            raise ValueError(f"`representation` must name a layer. Received: {representation!r}; there are {names}")
        representation = model.get_layer(representation).output
    if len(representation.shape) != 2:
        raise ValueError(
            f"`representation` must have shape (batch, units). Received: shape={tuple(representation.shape)}"
        )
    return representation


def _is_auxiliary(output: Tensor) -> bool:
    operation = output._keras_history.operation
    return isinstance(operation, TaskHead) and operation.auxiliary
