"""A worker in a process of its own: its answers, and what is said of one that fails."""

from collections.abc import Callable

import pytest
from c2al_pipelines.benchmarks.contenders import Contender, Worker, WorkerError


def test_a_worker_answers_what_it_is_asked(contender: Callable[..., Contender]) -> None:
    with Worker(contender("sleeper", step=0.01)) as worker:
        # What it has printed is no answer.
        assert worker.answer() == {"num_weights": 7, "compile_seconds": pytest.approx(0.02)}
        answer = worker.run(4)
    assert answer["seconds"] == pytest.approx(0.04)
    assert 5 < answer["peak_mb"] < 500
    assert answer["loss"] == 0.5


def test_a_silent_worker_is_given_up(contender: Callable[..., Contender]) -> None:
    with Worker(contender("mute", silent=True)) as worker:
        worker.answer()
        with pytest.raises(WorkerError, match=r"mute, only: no answer in 0.1 s\n  chatter of a library"):
            worker.run(1, patience=0.1)


def test_a_worker_that_ends_leaves_its_end_of_log(contender: Callable[..., Contender]) -> None:
    with (
        Worker(contender("bad", broken=True)) as worker,
        pytest.raises(WorkerError, match=r"(?s)bad, only: ended with status 1\n.*ValueError: no such table"),
    ):
        worker.answer()


def test_a_killed_worker_is_told_from_one_that_ends(contender: Callable[..., Contender]) -> None:
    with Worker(contender("victim")) as worker:
        worker.answer()
        worker._process.kill()
        with pytest.raises(WorkerError, match="victim, only: killed, as the system does when memory runs out"):
            worker.run(1)
