"""Keras optimizers: for embedding tables, at the cost of what a batch touches, and for many small weights at once."""

from .flat_adam import FlatAdam as FlatAdam
from .lazy_adam import LazyAdam as LazyAdam
from .row_wise_adagrad import RowWiseAdagrad as RowWiseAdagrad
from .sparse_adagrad import SparseAdagrad as SparseAdagrad
