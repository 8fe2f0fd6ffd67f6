"""A SavedModel on TensorFlow's C++ loader, through ctypes and NumPy alone: the code path of tensorflow_model_server."""

from .model import DEFAULT_SIGNATURE as DEFAULT_SIGNATURE, SavedModel as SavedModel
from .native import SavedModelError as SavedModelError
from .signatures import Signature as Signature, TensorSpec as TensorSpec
from .tensors import RawTensor as RawTensor
