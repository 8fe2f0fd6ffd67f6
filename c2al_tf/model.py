"""Models with one output per task: built from a schema, given cohort heads, stripped of them for serving."""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import keras

from .backbones import BACKBONES, REPRESENTATION as REPRESENTATION, Backbone, as_representation, field_embedding
from .config import ModelConfig
from .form import form_of, inputs_of, names_in, outputs_by_name, restore
from .graph import all_layers, calls, squashing_operation, tensor_in_graph, tensors_of_layer
from .layers import Experts, MixtureHead, NamedInputs, TaskHead
from .names import cohort_names
from .schema import Schema
from .types import PRIMARY, Tensor


def build_model(
    schema: Schema,
    config: ModelConfig | None = None,
    *,
    cohorts: Iterable[str] = (),
    priors: Mapping[str, float] | None = None,
    primary: Sequence[str] = (PRIMARY,),
    backbone: Backbone | None = None,
) -> keras.Model:
    """Builds a model: field embeddings, a backbone (the paper's is DHEN), a shared representation, one head per task.

    The shared layers and the primary heads are created first, so that after `keras.utils.set_random_seed(s)` they start
    from the same values with and without cohorts.

    Args:
        schema: The features; the model's inputs are `schema.inputs`.
        config: The backbone and its sizes.
        cohorts: Names of the cohorts that get an auxiliary head each.
        priors: Share of positives by task, from which a head's bias starts.
        primary: Names of the primary tasks.
        backbone: Your own in place of those of `backbones`: it maps X (batch, num_fields, dim), `config` and a dtype
            policy to h (batch, units). `config.backbone="history_attention"` still pools the histories in X.

    Returns:
        A functional model from `{input: (batch,) or (batch, length)}` to logits `{task: (batch, 1)}`. The layer
        `REPRESENTATION` makes h.

    Raises:
        ValueError: If the backbone is `history_attention` and no feature is multi-valued, or your own returns another
            shape, or `config.cohort_layer` names no layer.
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
    X = field_embedding(schema, config, dtype)(inputs)
    h = as_representation((backbone or BACKBONES[config.backbone])(X, config, dtype), dtype)
    head: Callable[..., TaskHead] = functools.partial(TaskHead, config.head_units)
    if config.num_experts:
        mixture = config.num_experts, int(h.shape[-1])
        h = Experts(*mixture, name="experts", dtype=dtype)(h)
        head = functools.partial(MixtureHead, *mixture, config.head_units)
    outputs = {task: head(prior=priors.get(task), name=f"task_{task}", dtype=dtype)(h) for task in primary}
    model = NamedInputs(inputs, outputs, name="c2al")
    cohorts = list(cohorts)
    if not cohorts:
        return model
    own = {task: prior for task, prior in priors.items() if task not in primary}
    if config.cohort_layer is not None:
        h = keras.layers.Flatten(name="cohort_input", dtype=dtype)(
            _layer_output(model, config.cohort_layer, "cohort_layer")
        )
    return _add_heads(model, h, cohort_names(cohorts, outputs, own), own, functools.partial(head, dtype=dtype))


def add_cohort_heads(
    model: keras.Model,
    representation: str | Tensor,
    cohorts: Iterable[str],
    *,
    hidden_units: Sequence[int] = (),
    priors: Mapping[str, float] | None = None,
    dtype: str | None = None,
) -> keras.Model:
    """Adds one auxiliary task head per cohort to a functional or Sequential model; its weights are shared, not copied.

    Args:
        model: Its outputs are logits: one tensor, alone or in a list (which becomes the output `primary`), a list of
            them (which get the names of their layers), or a dict of them by task.
        representation: The shared representation, (batch, units): a tensor of the model, or the name of the layer that
            makes it.
        cohorts: Names of the cohorts (`cohort.name`).
        hidden_units: Units of each head's hidden layers. Empty: linear heads.
        priors: Share of positives `y * 1[x in cohort]` among all rows, by cohort, from which a head's bias starts.
        dtype: Keras dtype policy of the heads.

    Returns:
        A functional model, to be compiled, with the same inputs and the outputs
        `{**primary tasks, cohort: (batch, 1)}`. It reads a dict of inputs by name, whatever else is in the dict.

    Raises:
        ValueError: If a cohort has the name of another output, the representation is not found, ambiguous or not of
            shape (batch, units), no cohort is given, a prior is for another name, an output is a probability, or the
            model is a subclass whose own methods would be lost.
    """
    outputs = outputs_by_name(model)
    _check_overrides(model, "Its methods would be lost")
    cohorts = cohort_names(cohorts, outputs, priors or {})
    check_logits(model)
    h = _representation(model, representation)
    return _add_heads(model, h, cohorts, priors or {}, functools.partial(TaskHead, hidden_units, dtype=dtype))


def _add_heads(
    model: keras.Model,
    h: Tensor,
    cohorts: Iterable[str],
    priors: Mapping[str, float],
    head: Callable[..., TaskHead],
) -> keras.Model:
    """The model with an auxiliary head of that kind for each cohort, on a tensor of its graph."""
    outputs, original = outputs_by_name(model), _original(model) or form_of(model)
    for name in cohorts:
        outputs[name] = head(prior=priors.get(name), auxiliary=True, original=original, name=f"task_{name}")(h)
    return NamedInputs(inputs_of(model), outputs, name=model.name)


def strip_auxiliary_heads(model: keras.Model) -> keras.Model:
    """Drops the outputs that depend on auxiliary task heads, and with them every layer that only they used.

    Args:
        model: What `add_cohort_heads` or `build_model` returned, before or after training, saving and loading.

    Returns:
        What `add_cohort_heads` was given, with weights shared, not copied: a model of the same class, with the same
        inputs, the same outputs in the same structure and an equal `get_config()`; to be compiled. A model without
        auxiliary heads is returned as it is.

    Raises:
        ValueError: If a primary output depends on an auxiliary head, or the heads are within a nested model.
    """
    outputs = outputs_by_name(model)
    _check_overrides(model, "What it computes would be lost", {"__call__", "call", "predict_step"})
    _check_nested_heads(model)
    kept = {task: output for task, output in outputs.items() if not _auxiliary_heads([output])}
    if len(kept) == len(outputs):
        return model
    form = _original(model)
    primary = names_in(form) if form else set()
    if lost := (primary & {*outputs}) - {*kept} or ({*outputs} if not kept else set()):
        raise ValueError(
            "A primary output must not depend on an auxiliary head, which is absent in serving. "
            f"Received: {sorted(lost)}"
        )
    inputs = inputs_of(model)
    if form and primary == {*kept}:
        return restore(form, inputs, kept)
    # The outputs were renamed or chosen after the heads were added.
    return keras.Model(inputs, kept if isinstance(model.output, dict) else list(kept.values()), name=model.name)


def check_logits(model: keras.Model) -> None:
    """Raises ValueError if an output is a sigmoid or softmax, reshaped at most: losses, NE and exports take logits.

    It looks at the graph: what a layer of one's own computes in its `call` is hidden.
    """
    for task, output in outputs_by_name(model).items():
        squashing = squashing_operation(output)
        if squashing is not None:
            raise ValueError(
                f"Output `{task}` must be logits, as the losses take them (from_logits=True). Received: probabilities "
                f"of layer `{squashing.name}`, {type(squashing).__name__}. End the model before the sigmoid or "
                "softmax (a Dense layer with activation=None), and apply it to the outputs in serving."
            )


def _check_overrides(model: keras.Model, consequence: str, names: Collection[str] | None = None) -> None:
    """Raises ValueError if a subclass has methods of its own in place of Keras's: the result is a plain model."""
    own = [
        cls for cls in type(model).__mro__ if cls.__module__.split(".")[0] not in ("builtins", "keras", "tensorflow")
    ]
    found = sorted(
        name
        for cls in own
        if cls is not NamedInputs
        for name, value in vars(cls).items()
        if hasattr(keras.Model, name) and (callable(value) or isinstance(value, property)) and name not in _REBUILDING
    )
    if found := [name for name in found if names is None or name in names]:
        raise ValueError(
            f"The model must be a plain functional or Sequential one. {consequence}. Received: {type(model).__name__} "
            f"with its own {', '.join(found)}. Pass keras.Model(model.input, model.output); where its training step "
            f"is needed, make a {type(model).__name__} of the inputs and outputs of what you get."
        )


_REBUILDING = {"__init__", "__new__", "get_config", "from_config", "build", "get_build_config", "build_from_config"}
"""Methods of a subclass that say how its graph comes about, which is there."""


def _representation(model: keras.Model, representation: str | Tensor) -> Tensor:
    h = _layer_output(model, representation) if isinstance(representation, str) else representation
    h = tensor_in_graph(model, h)
    if h is None:
        raise ValueError(
            "`representation` must be computed from the model's inputs. Received: "
            f"{representation!r}, a tensor of another model or within a nested one. {_OUTPUT_OF_NESTED}"
        )
    if len(h.shape) != 2 or h.shape[-1] is None:
        raise ValueError(f"`representation` must have shape (batch, units). Received: shape={tuple(h.shape)}")
    return h


_OUTPUT_OF_NESTED = "Of a nested model only the outputs can be taken: let it return the representation, too."


def _layer_output(model: keras.Model, name: str, argument: str = "representation") -> Tensor:
    found = tensors_of_layer(model, name)
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"`{argument}` must name a layer that makes one tensor; otherwise pass the tensor. "
            f"Received: {name!r}, which makes {len(found)}"
        )
    names = [layer.name for layer in model.layers]
    nested = f". It is within a nested model. {_OUTPUT_OF_NESTED}" if _is_within(model, name) else ""
    raise ValueError(f"`{argument}` must name a layer. Received: {name!r}; there are {names}{nested}")


def _is_within(model: keras.Model, name: str) -> bool:
    return name in {layer.name for layer in all_layers(model)}


def _auxiliary_heads(outputs: Iterable[Tensor]) -> list[TaskHead]:
    operations = [call.operation for call in calls(outputs)]
    return [head for head in operations if isinstance(head, TaskHead) and head.auxiliary]


def _check_nested_heads(model: keras.Model) -> None:
    for layer in model.layers:
        if isinstance(layer, keras.Model) and any(
            isinstance(inner, TaskHead) and inner.auxiliary for inner in all_layers(layer)
        ):
            raise ValueError(
                "Auxiliary heads within a nested model cannot be stripped: strip it before it is nested. "
                f"Received: nested model `{layer.name}`"
            )


def _original(model: keras.Model) -> Mapping[str, Any] | None:
    """What the first of the auxiliary heads was added to; None without such a head."""
    return next((head.original for head in _auxiliary_heads(model.outputs) if head.original), None)
