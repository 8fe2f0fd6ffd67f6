"""A functional model that is safe whatever else comes with its inputs."""

from collections.abc import Mapping
from typing import Any

import keras


@keras.saving.register_keras_serializable(package="c2al_tf")
class NamedInputs(keras.Model):
    """A functional model that reads a dict of inputs by name and leaves every other entry alone.

    Keras 3.12 to 3.15 feeds the inputs of a functional model by sorted position where the dict has one entry more: an
    input silently gets the values of another column.

    Raises:
        ValueError: If a column of strings that the model does not read comes into a step that XLA compiles.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
        """Maps inputs to outputs as any functional model does."""
        self._check_extra(inputs)
        return super().call(self._select(inputs), training=training, mask=self._select(mask), **kwargs)

    def compute_output_spec(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Shapes and dtypes of the outputs."""
        return super().compute_output_spec(self._select(inputs), training=training, mask=self._select(mask))

    def _select(self, values: Any) -> Any:
        """Entries that are missing stay so: Keras names them."""
        if not isinstance(values, Mapping):
            return values
        if isinstance(self.input, Mapping):
            return {name: values[name] for name in self.input if name in values}
        # Keras finds a single input by its name, too, but warns; those of a list it finds.
        single = keras.backend.is_keras_tensor(self.input) and self.input.name in values
        return values[self.input.name] if single else values

    def _check_extra(self, inputs: Any) -> None:
        """XLA dies of an argument of strings, read or not, and names neither the column nor a remedy."""
        if not isinstance(inputs, Mapping) or not (self.compiled and self.jit_compile) or self.run_eagerly:
            return
        names = self.input if isinstance(self.input, Mapping) else [x.name for x in self.inputs]
        for name in set(inputs) - set(names):
            if _is_traced_string(inputs[name]):
                raise ValueError(
                    "Columns of strings that the model does not read must be dropped before a step that is compiled "
                    "with jit_compile=True, for instance by `add_cohort_labels(..., keep=model)`. "
                    f"Received: `{name}`; the model reads {sorted(names)}"
                )


def _is_traced_string(value: Any) -> bool:
    """Whether a value is a tensor of strings in a graph: one that is executed at once does no harm."""
    if not keras.ops.is_tensor(value) or hasattr(value, "numpy"):
        return False
    return keras.backend.standardize_dtype(value.dtype) == "string"
