"""Training: the loop, its step and history, the optimizer, several workers, and a trained model on rows."""

from .allocation import keep_freed_memory as keep_freed_memory
from .batches import Batches as Batches
from .distribution import (
    LostWorkerError as LostWorkerError,
    make_strategy as make_strategy,
    worker_shard as worker_shard,
)
from .history import History as History, NonFiniteLossError as NonFiniteLossError
from .loop import SYNC_STEPS as SYNC_STEPS, train as train
from .optimizer import make_optimizer as make_optimizer
from .prediction import evaluate as evaluate, predict as predict
from .step import compile_step as compile_step
