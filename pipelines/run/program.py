"""A model with optimizer and objective, compiled once for all seeds of an arm, and the values that it starts from."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from c2al_tf.config import TrainingConfig
from c2al_tf.data.inputs.packing import primary_tasks
from c2al_tf.data.inputs.priors import TaskCounts
from c2al_tf.form import outputs_by_name
from c2al_tf.layers.fm_attention import attention_layers, freeze_attention
from c2al_tf.losses import Objective, state_of
from c2al_tf.model import build_model, strip_auxiliary_heads
from c2al_tf.training import make_optimizer
from c2al_tf.training.distribution import Strategy
from c2al_tf.types import Array

from .folder import RunFolder
from .logits import forget_program
from .recipe import Trained, describe_training
from .warm_start import earlier_run


@dataclass(frozen=True)
class Program:
    """A model with its optimizer and objective, compiled once: another seed is other values in its variables.

    Args:
        key: What its graph depends on.
        model: The model.
        primary: The same without auxiliary heads: it shares the weights.
        objective: The loss.
        lambdas: Weights of the auxiliary losses.
        state: The variables of the optimizer and of the objective, with the values that they begin with; none for a
            large model, which trains one seed.
    """

    key: Any
    model: keras.Model
    primary: keras.Model
    objective: Objective
    lambdas: dict[str, keras.Variable]
    state: list[tuple[keras.Variable, Array]]


MOST_SHARED = 2**26
"""Numbers in all variables above which a program serves one seed: a second copy of a large table costs more memory than
compiling anew costs time.
"""

_LAST: list[Program] = []
"""The program that was trained last: the seeds of an arm come one after the other."""


def make_program(
    run: RunFolder, seed: int, trained: Trained, counts: TaskCounts, steps: int, strategy: Strategy
) -> Program:
    """The program of an arm, with the initial values of a seed."""
    key = (run.path, trained.graph, strategy)
    if _LAST and _LAST[0].key != key:
        _LAST.clear()
    fresh = _initial_model(run, seed, trained, counts, strategy)
    if _LAST:
        program = _LAST[0]
        for variable, value in zip(program.model.variables, fresh.variables, strict=True):
            variable.assign(value)
        for variable, initial in program.state:
            variable.assign(initial)
    else:
        forget_program()
        program = _compile_program(key, fresh, trained, trained.arm.training_of(run.config.training), steps, strategy)
        if program.state:
            _LAST.append(program)
    for cohort, weight in trained.lambdas.items():
        program.lambdas[cohort].assign(weight)
    return program


def _compile_program(
    key: Any, model: keras.Model, trained: Trained, training: TrainingConfig, steps: int, strategy: Strategy
) -> Program:
    with strategy.scope():
        lambdas = {name: keras.Variable(0.0, trainable=False, name=f"lambda_{name}") for name in trained.lambdas}
        objective = trained.make_objective(lambdas, list(outputs_by_name(model)))
        model.compile(optimizer=make_optimizer(training, steps * training.epochs))
        model.optimizer.build(model.trainable_variables)
    state = [*model.optimizer.variables, *state_of(objective)]
    small = sum(math.prod(variable.shape) for variable in (*state, *model.variables)) <= MOST_SHARED
    begun = [(variable, keras.ops.convert_to_numpy(variable)) for variable in state] if small else []
    return Program(key, model, strip_auxiliary_heads(model), objective, lambdas, begun)


def _initial_model(run: RunFolder, seed: int, trained: Trained, counts: TaskCounts, strategy: Strategy) -> keras.Model:
    arm = trained.arm
    # What initializers and dropout of Keras draw their seeds from. `keras.utils.set_random_seed` would set TensorFlow's
    # seed, too, which nothing here draws from, and with it TensorFlow forgets how its functions are to be run.
    random.seed(seed)
    with strategy.scope():
        model = build_model(
            run.schema,
            arm.model_of(run.config.model),
            primary=list(primary_tasks(run.schema)),
            cohorts=[cohort.name for cohort in trained.tasks],
            priors=counts.priors,
        )
    earlier = earlier_run(run.config)
    if earlier is not None and arm.start is None:
        begun = keras.saving.load_model(earlier.model_file(seed, arm.name), compile=False)
        tasks = [
            [task.to_json() for task in each] for each in (trained.tasks, describe_training(earlier, arm.name).tasks)
        ]
        whole = tasks[0] == tasks[1]  # else heads of other cohorts, which begin anew
        _assign(*(each.variables if whole else strip_auxiliary_heads(each).variables for each in (model, begun)))
    if arm.start is not None:
        start = keras.saving.load_model(run.model_file(seed, arm.start), compile=False)
        _assign(strip_auxiliary_heads(model).variables, strip_auxiliary_heads(start).variables)
    if arm.frozen is None:
        return model
    freeze_attention(model, arm.frozen)
    if arm.frozen_at == "reference":
        reference = keras.saving.load_model(run.model_file(seed, arm.reference), compile=False)
        for layer, trained_layer in zip(attention_layers(model), attention_layers(reference), strict=True):
            _assign(layer.variables, trained_layer.variables)
    return model


def _assign(variables: Sequence[keras.Variable], values: Sequence[keras.Variable]) -> None:
    """Assigns by place: the paths of a loaded model's variables are others."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class DecayLambdas(keras.callbacks.Callback):
    """Lowers lambdas to 0 by a cosine: at step t of T, lambda (1 + cos(pi t / T)) / 2."""

    def __init__(
        self, lambdas: Mapping[str, float], variables: Mapping[str, keras.Variable], steps: int, epochs: int
    ) -> None:
        super().__init__()
        self.lambdas, self.variables, self.steps, self.total = lambdas, variables, steps, steps * epochs
        self.before = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Counts the steps of the epochs before, also those of a run that is resumed."""
        self.before = epoch * self.steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Assigns the step's lambdas."""
        left = (1 + math.cos(math.pi * (self.before + batch) / self.total)) / 2
        for name, weight in self.lambdas.items():
            self.variables[name].assign(weight * left)
