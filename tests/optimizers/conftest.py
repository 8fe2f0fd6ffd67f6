"""What every sparse optimizer owes: 200 steps as its rule says them, with and without XLA."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

NUM_OCCURRENCES, DIM = 60, 4
TABLES = {"small": 20, "large": 300}
"""Rows of a table that is summed as a whole, and of one whose occurrences are."""

Rule = Callable[[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray, int], tuple[np.ndarray, list[np.ndarray]]]


def draw(num_rows: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Occurrences (60,) of even rows alone, most of them of the first few, and their gradients (60, 4)."""
    rng = np.random.default_rng(step)
    rows = 2 * np.minimum(rng.geometric(0.15, NUM_OCCURRENCES) - 1, (num_rows - 1) // 2)
    return rows.astype(np.int32), rng.normal(size=(NUM_OCCURRENCES, DIM)).astype(np.float32)


def reference(
    weight: np.ndarray, states: Sequence[np.ndarray], rule: Rule, duplicates: str, num_steps: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The steps in float64, row by row."""
    weight, states = weight.astype(np.float64), [state.astype(np.float64) for state in states]
    for step in range(num_steps):
        rows, values = draw(len(weight), step)
        for row in np.unique(rows):
            occurrences = values[rows == row].astype(np.float64)
            total = occurrences.sum(axis=0)
            squares = total**2 if duplicates == "sum" else (occurrences**2).sum(axis=0)
            weight[row], new = rule(weight[row], [state[row] for state in states], total, squares, step + 1)
            for state, value in zip(states, new, strict=True):
                state[row] = value
    return weight, states


@pytest.fixture
def check_rule() -> Callable[..., None]:
    """`check_rule(optimizer, rule, jit_compile)`: compares with `rule` for one row."""
    import keras
    import tensorflow as tf

    def check(optimizer: Any, rule: Rule, jit_compile: bool, num_steps: int = 200) -> None:
        rng = np.random.default_rng(0)
        tables = [keras.Variable(rng.normal(size=(rows, DIM)), dtype="float32") for rows in TABLES.values()]
        optimizer.build(tables)
        initial = [[variable.numpy() for variable in (table, *states)] for table, states in _slots(optimizer, tables)]

        @tf.function(jit_compile=jit_compile)
        def step(batches: Any) -> None:
            gradients = [tf.IndexedSlices(values, rows) for rows, values in batches]
            optimizer.apply(gradients, tables)

        for number in range(num_steps):
            step([tuple(map(tf.constant, draw(rows, number))) for rows in TABLES.values()])
        for (table, states), before in zip(_slots(optimizer, tables), initial, strict=True):
            weight, expected = reference(before[0], before[1:], rule, optimizer.duplicates, num_steps)
            for variable, value, start in zip((table, *states), (weight, *expected), before, strict=True):
                np.testing.assert_allclose(variable.numpy(), value, rtol=1e-5, atol=1e-5 * np.abs(value).max())
                np.testing.assert_array_equal(variable.numpy()[1::2], start[1::2], "untouched rows")

    return check


def _slots(optimizer: Any, tables: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    return list(zip(tables, optimizer._states, strict=True))


@pytest.fixture(params=[False, True], ids=["no XLA", "XLA"])
def jit_compile(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(params=["sum", "each"])
def duplicates(request: pytest.FixtureRequest) -> str:
    return request.param
