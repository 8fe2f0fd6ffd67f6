"""The columns that fill a model's inputs."""

from typing import Any

from c2al_tf.feature import Column
from c2al_tf.protocol.tensors import TensorSpec


def input_column(name: str, spec: TensorSpec) -> Column:
    """What to read for an input of a model, to be cast to the input's own dtype.

    Raises:
        ValueError: If a file cannot fill it.
    """
    dtypes: dict[str, Any] = {"O": "string", "i": "int64", "u": "int64", "f": "float32"}
    shape = spec.shape
    if spec.dtype.kind not in dtypes or shape is None or len(shape) not in (1, 2) or None in shape[1:]:
        raise ValueError(
            f"a file can fill inputs of strings, integers or floats of shape (batch,) or (batch, length). "
            f"Received: input {name!r} of {spec.dtype}, shape {shape}"
        )
    return Column(name, dtypes[spec.dtype.kind], None if len(shape) == 1 else shape[1])
