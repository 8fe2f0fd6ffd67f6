"""A SavedModel on TensorFlow's C++ loader, through ctypes and NumPy alone: the code path of tensorflow_model_server."""

from ..protocol.tensors import Signature as Signature, TensorSpec as TensorSpec
from .model import DEFAULT_SIGNATURE as DEFAULT_SIGNATURE, SavedModel as SavedModel
from .native import SavedModelError as SavedModelError
