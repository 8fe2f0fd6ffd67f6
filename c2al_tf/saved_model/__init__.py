"""A SavedModel on TensorFlow's C++ loader, through ctypes and NumPy alone: the code path of tensorflow_model_server."""

from ..protocol.tensors import (
    DEFAULT_SIGNATURE as DEFAULT_SIGNATURE,
    Signature as Signature,
    TensorSpec as TensorSpec,
)
from .model import SavedModel as SavedModel
from .native import SavedModelError as SavedModelError
