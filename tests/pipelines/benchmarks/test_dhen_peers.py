"""Ours answers as a contender does, and the peers train as many weights."""

import dataclasses
import math

import pytest
from c2al_pipelines.benchmarks.contenders import Contender, Worker, WorkerError
from c2al_pipelines.benchmarks.dhen_peers import PROBLEMS, contenders
from c2al_pipelines.benchmarks.peers import one_mode
from c2al_pipelines.benchmarks.workers import keras_dhen

SMALL = dataclasses.replace(PROBLEMS[1], num_rows=60, num_fields=6, dim=4, batch_size=16, num_batches=2, units=8)
OURS, PEERS = contenders(SMALL)


@pytest.mark.slow
def test_ours_trains() -> None:
    with Worker(OURS[1]) as worker:
        ready, answer = worker.answer(), worker.run(3)
    assert ready["num_weights"] == keras_dhen.build(OURS[1].spec).num_weights
    assert ready["compile_seconds"] > 0
    assert math.isfinite(answer["loss"])


@pytest.mark.parametrize("peer", one_mode(PEERS), ids=lambda peer: peer.name)
def test_peers_train_as_many_weights(peer: Contender) -> None:
    with Worker(peer) as worker:
        try:
            ready, answer = worker.answer(), worker.run(3)
        except WorkerError as error:
            if "No module named" not in str(error):
                raise
            pytest.skip("`make bench` installs PyTorch and JAX")
    assert ready["num_weights"] == keras_dhen.build(OURS[1].spec).num_weights
    assert math.isfinite(answer["loss"])
