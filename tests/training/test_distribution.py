"""Two workers and two devices against one process, and what a process knows of the others."""

import contextlib
import json
import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.data.inputs.sharding import Shard
from c2al_tf.training.distribution import (
    LostWorkerError,
    is_chief,
    lost_workers_named,
    make_strategy,
    num_workers,
    sum_over_workers,
    worker_shard,
)

SCRIPT = Path(__file__).with_name("replicas.py")
OBJECTIVES = ("sum", "pcgrad", "dro")


@pytest.fixture(scope="module")
def ports() -> Iterator[list[str]]:
    """Two ports that nobody else gets: the workers share them with sockets of ours, which do not listen."""
    with socket.socket() as one, socket.socket() as other, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_GRPC_REUSE_PORT", "1")
        for each in (one, other):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            each.bind(("localhost", 0))
        yield [str(each.getsockname()[1]) for each in (one, other)]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory, start_process, ports) -> dict[str, tuple[list[np.ndarray], dict]]:
    """Variables and report of each process of a run on two workers, and of one on two devices."""
    folder = tmp_path_factory.mktemp("replicas")
    both = ",".join(ports)
    calls = {"worker0": ["workers", "0", both], "worker1": ["workers", "1", both], "devices": ["devices", "0", "0"]}
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(
                start_process([sys.executable, SCRIPT, *words, folder / name], stderr=subprocess.STDOUT)
            )
            for name, words in calls.items()
        }
        # A worker whose partner has failed waits for it: whoever ends first with an error ends all.
        with ThreadPoolExecutor(len(calls)) as pool:
            saying = {pool.submit(process.communicate): name for name, process in processes.items()}
            for future in as_completed(saying):
                failed = processes[saying[future]].returncode != 0
                for process in processes.values() if failed else ():
                    process.kill()
                assert not failed, future.result()[0][-3000:]
    return {
        name: (
            {objective: load(folder / f"{name}-{objective}.npz") for objective in OBJECTIVES},
            json.loads((folder / f"{name}.json").read_text()),
        )
        for name in calls
    }


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[list[np.ndarray], list[dict[str, float]]]]:
    """By objective, variables and figures of the same runs in this process."""
    script = runpy.run_path(str(SCRIPT))
    found = {}
    for name in OBJECTIVES:
        model, history, objective = script["fit"](name=name)
        found[name] = ([variable.numpy() for variable in script["variables"](model, objective)], history.epochs)
    return found


def load(path: Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[name] for name in file.files]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ["worker0", "devices"])
def test_replicas_compute_what_one_process_does(replicas, alone, name, objective) -> None:
    """Row-wise Adagrad on an embedding, a gradient clipped as a whole, and row weights that differ by replica.

    Also with the gradients of two tasks combined, and with an objective that has state.
    """
    values, epochs = alone[objective]
    for ours, expected in zip(replicas[name][0][objective], values, strict=True):
        assert np.linalg.norm(ours.astype(float) - expected) <= 1e-5 * np.linalg.norm(expected.astype(float))
    (figures,), (expected,) = replicas[name][1]["epochs"][objective], epochs
    assert "val_loss" in expected  # which one process alone can say
    assert figures == {n: pytest.approx(value, rel=1e-5) for n, value in expected.items() if n != "val_loss"}
    tasks = ("primary",) if objective == "dro" else ("primary", "other")
    assert set(figures) == {"loss"} | {f"{v}{t}_{m}" for v in ("", "val_") for t in tasks for m in ("loss", "ne")}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_workers_are_equal_to_the_bit(replicas, objective) -> None:
    for a, b in zip(*(replicas[name][0][objective] for name in ("worker0", "worker1")), strict=True):
        np.testing.assert_array_equal(a, b)
    assert replicas["worker0"][1]["epochs"] == replicas["worker1"][1]["epochs"]


@pytest.mark.parametrize("name", ["worker0", "worker1"])
def test_workers_that_disagree_say_so(replicas, name) -> None:
    position, weights = replicas[name][1]["said"]
    assert position.startswith("All workers must resume from one folder of checkpoints")
    assert position.endswith("Received: epoch and step by worker [[0, 7], [0, 8]]")
    assert weights.startswith("All workers must begin with the same variables")
    assert weights.endswith("Received: different values of ['hidden/kernel']")


def test_a_batch_that_the_devices_cannot_share(replicas) -> None:
    (said,) = replicas["devices"][1]["said"]
    assert "The rows of a batch must be a multiple of the number of devices, 2. Received: [5]" in said


def test_without_other_processes(monkeypatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    strategy = make_strategy()
    assert strategy is tf.distribute.get_strategy()
    assert (num_workers(), worker_shard(strategy), is_chief(strategy)) == (1, Shard(0, 1), True)
    values = np.array([[1.0, 2.0], [3.0, 1e-17]])
    np.testing.assert_array_equal(sum_over_workers(strategy, values), values)


@pytest.mark.parametrize(("jobs", "number"), [({"worker": 1}, 1), ({"worker": 3}, 3), ({"chief": 1, "worker": 2}, 3)])
def test_number_of_workers(monkeypatch, jobs, number) -> None:
    cluster = {job: [f"host{index}:1" for index in range(count)] for job, count in jobs.items()}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster | {"ps": ["host9:1"]}, "task": {}}))
    assert num_workers() == number


@pytest.mark.parametrize(("task", "index"), [(("chief", 0), 0), (("worker", 0), 1), (("worker", 1), 2)])
def test_the_chief_is_the_first_worker(task, index) -> None:
    cluster = tf.train.ClusterSpec({"chief": ["a:1"], "worker": ["b:1", "c:1"]})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, task_type=task[0], task_id=task[1])

    class OfCluster:
        cluster_resolver = resolver

    assert worker_shard(OfCluster()) == Shard(index, 3)
    assert is_chief(OfCluster()) == (index == 0)


def test_a_task_that_trains_nothing(monkeypatch) -> None:
    cluster = {"worker": ["a:1", "b:1"], "evaluator": ["c:1"]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "evaluator", "index": 0}}))
    with pytest.raises(ValueError, match="The task type in `TF_CONFIG` must be chief or worker. Received: evaluator"):
        make_strategy()


@pytest.mark.slow
@pytest.mark.parametrize("task", [0, 1])
def test_a_worker_does_not_wait_for_ever(task, ports, run_python, monkeypatch) -> None:
    """The other one never starts."""
    code = "from c2al_tf.training import distribution as d; d.START_SECONDS = 3.0; d.make_strategy()"
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": "worker", "index": task}}))
    done = run_python(code, check=False)
    assert done.returncode == 1
    assert "Waiting for 2 workers to start; without them this one ends after 3 s" in done.stderr


def test_the_error_of_a_lost_worker_says_what_it_means() -> None:
    message = "Collective ops is aborted by: recvmsg:Connection reset by peer\nAdditional GRPC error information"
    with (
        pytest.raises(
            LostWorkerError, match=r"Another worker is gone, .*\(recvmsg:Connection reset by peer\)\. .*last"
        ),
        lost_workers_named(),
    ):
        raise tf.errors.UnavailableError(None, None, message)
    with pytest.raises(tf.errors.InvalidArgumentError, match="bad row"), lost_workers_named():
        raise tf.errors.InvalidArgumentError(None, None, "ValueError: bad row")
