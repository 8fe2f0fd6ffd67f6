"""Keras optimizers for embedding tables: a step costs what its batch touches, whatever the size of the table."""

from .lazy_adam import LazyAdam as LazyAdam
from .row_wise_adagrad import RowWiseAdagrad as RowWiseAdagrad
from .sparse_adagrad import SparseAdagrad as SparseAdagrad
