"""Training: the loop with its step and its history, the optimizer, and a trained model on rows."""

from .history import History as History
from .loop import SYNC_STEPS as SYNC_STEPS, Batches as Batches, train as train
from .optimizer import make_optimizer as make_optimizer
from .prediction import evaluate as evaluate, predict as predict
from .step import compile_step as compile_step
