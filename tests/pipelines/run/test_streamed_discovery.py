"""Discovery reads the validation rows in batches, and finds what it finds in all rows at once."""

import dataclasses
import functools

import numpy as np
import pytest
from c2al_pipelines.run import targets
from c2al_pipelines.run.arms import BASELINE
from c2al_pipelines.run.folder import RunFolder, read_config
from c2al_pipelines.run.logits import split_logits
from c2al_pipelines.run.rows import read_split
from scipy.special import expit
from tqdm import tqdm

from c2al_tf.cohorts import count_cohorts, cut_axes


@pytest.mark.parametrize("rows", [700, 1 << 18])
def test_any_batches_give_the_counts_of_all_rows_at_once(finished, monkeypatch, rows: int) -> None:
    run = RunFolder(finished.path, read_config(finished.path / "config.json"))
    monkeypatch.setattr(targets, "_BATCH_ROWS", rows)
    monkeypatch.setattr(targets, "tqdm", functools.partial(tqdm, disable=rows == 700))  # as TQDM_DISABLE=1 does
    monkeypatch.setattr(targets, "rank_cohorts", lambda counts, **rest: counts)
    axes = targets._axes(run)
    found = targets._discover_along(run, axes)
    columns = read_split(run, "validation", {name for axis in axes for name in axis.columns} | {run.schema.labels[0]})
    logits = np.stack([split_logits(run, seed, BASELINE, "validation") for seed in run.seeds])
    whole = count_cohorts(
        expit(logits.astype(np.float64)), columns, cut_axes(axes, columns), labels=columns[run.schema.labels[0]]
    )
    for field in dataclasses.fields(whole):
        ours, theirs = getattr(found, field.name), getattr(whole, field.name)
        if isinstance(theirs, np.ndarray):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)
        else:
            assert ours == theirs
