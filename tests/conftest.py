"""What all tests share: processes of their own, where real data is, a small world, and what every layer owes."""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

# How long an example takes says nothing about the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    """Makes this process the parent of what its children leave, so that `no_process_is_left` finds it."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1)


# The files that take longest, the longest first: with `--dist loadfile` one that begins late would keep one worker busy
# when the others have nothing left to do. The second file that reads the finished run is the third here: a worker that
# took it at once would wait for that run.
LONGEST = (
    "pipelines/run/test_run.py",
    "test_cohort_model.py",
    "pipelines/experiments/test_experiment.py",
    "integrations/test_tfrs.py",
    "training/test_fit.py",
    "training/test_distribution.py",
    "test_trial.py",
    "export/test_publish.py",
    "training/test_loop.py",
    "pipelines/run/test_records_run.py",
    "pipelines/test_bad_input.py",
    "data/inputs/test_sharding.py",
    "data/inputs/test_labelled_dataset.py",
    "optimizers/test_sparse_optimizer.py",
    "test_backbones.py",
    "layers/test_fm_attention.py",
    "cohorts/test_discovery.py",
    "pipelines/datasets/test_synthetic_ads.py",
    "data/inputs/test_dataset.py",
    "pipelines/report/test_report.py",
    "diagnostics/test_callback.py",
    "pipelines/examples/test_keras_model.py",
    "pipelines/benchmarks/serving_proofs/test_fuzz.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
    if (backend := os.environ.get("KERAS_BACKEND", "tensorflow")) != "tensorflow":
        for item in items:
            if item.get_closest_marker("tensorflow"):
                item.add_marker(
                    pytest.mark.skip(reason=f"needs Keras on TensorFlow: its tapes, functions or export; not {backend}")
                )


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    """Kills the processes that a test has started and not ended: that test fails, and no other is blamed for them."""
    before = _children()
    yield
    popen = {}
    left = []
    while pids := _children() - before:
        popen = popen or {each.pid: each for each in gc.get_objects() if isinstance(each, subprocess.Popen)}
        for pid in pids:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if command or pid in popen:  # others have ended, and their parents before them
                left.append(command or f"Popen({popen[pid].args}), not waited for")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _forget(pid, popen.get(pid))
    if left:
        pytest.fail("The test has left processes:\n" + "\n".join(left))


def _children() -> set[int]:
    """Of this process; those of `multiprocessing` that have ended are joined, and its resource tracker stays."""
    multiprocessing.active_children()
    try:  # mostly there is none, and TensorFlow has a hundred threads to look through
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    pids = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
            pids.update(map(int, (thread / "children").read_text().split()))
    return pids - {resource_tracker._resource_tracker._pid}


def _forget(pid: int, process: "subprocess.Popen[Any] | None") -> None:
    """Waits for a killed child, and closes its pipes, so that nothing of it is found later."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    if process is not None:
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


# Becomes a command that dies with its parent, whatever kills that (PR_SET_PDEATHSIG), and that Ctrl-C interrupts, also
# where a shell has started the tests in the background.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):  # else it is dead already
    os.execvp(sys.argv[2], sys.argv[2:])
"""


@contextlib.contextmanager
def _start_process(command: list[Any], **options: Any) -> "Iterator[subprocess.Popen[str]]":
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    tied = [sys.executable, "-IS", "-c", _DIE_WITH_PARENT, str(os.getpid()), *map(str, command)]
    with subprocess.Popen(tied, start_new_session=True, **(pipes | options)) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with contextlib.suppress(ChildProcessError):
                while True:  # its children have become ours
                    os.waitpid(-process.pid, 0)


@pytest.fixture(scope="session")
def start_process() -> "Callable[..., contextlib.AbstractContextManager[subprocess.Popen[str]]]":
    """`start_process(command, **options)`: a Popen that is killed on leaving, with all that it has started."""
    return _start_process


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], object]], None]:
    """`until(condition)` looks every few milliseconds; five minutes are for a condition that never comes true."""

    def wait(condition: Callable[[], object]) -> None:
        end = time.monotonic() + 300
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.005)

    return wait


@pytest.fixture(scope="session")
def run_python() -> "Callable[..., subprocess.CompletedProcess[str]]":
    """`run_python(code, *words, check=True)` runs code in a process of its own."""

    def run(code: str, *words: Any, check: bool = True) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", code, *words]
        with _start_process(command) as process:
            output, error = process.communicate()
        assert process.returncode == 0 or not check, error
        return subprocess.CompletedProcess(command, process.returncode, output, error)

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("C2AL_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data is not at {folder}; set C2AL_DATA to the folder that holds census_income_kdd")
    return folder


@pytest.fixture
def check_layer(tmp_path: Path) -> Callable[..., None]:
    """What every layer owes: output shape, any batch size, config and file round trips, mixed precision."""
    import keras

    def check(build: Callable[..., keras.layers.Layer], inputs: Any) -> None:
        named = isinstance(inputs, dict)
        symbolic = {
            name: keras.Input(x.shape[1:], dtype=str(x.dtype), name=name)
            for name, x in (inputs if named else {"x": inputs}).items()
        }
        symbolic = symbolic if named else symbolic["x"]
        keras.utils.set_random_seed(0)
        layer = build()
        output = layer(symbolic)
        model = keras.Model(symbolic, output)
        expected = model(inputs)
        assert tuple(output.shape) == (None, *expected.shape[1:])
        shapes = {name: (None, *x.shape[1:]) for name, x in inputs.items()} if named else (None, *inputs.shape[1:])
        assert tuple(layer.compute_output_shape(shapes)) == (None, *expected.shape[1:])
        first = {name: x[:1] for name, x in inputs.items()} if named else inputs[:1]
        np.testing.assert_allclose(model(first), expected[:1], rtol=1e-5, atol=1e-6)
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
        model.save(tmp_path / "layer.keras")
        loaded = keras.saving.load_model(tmp_path / "layer.keras")
        np.testing.assert_array_equal(loaded(inputs), expected)
        mixed = build(dtype="mixed_bfloat16")
        mixed(inputs)
        assert {variable.dtype for variable in mixed.trainable_variables} <= {"float32"}

    return check


@pytest.fixture(scope="session")
def small_schema() -> Any:
    """Categorical, hashed, multi-valued and numeric features."""
    from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema

    return Schema(
        features=(
            CategoricalFeature("color", "string", vocabulary=("red", "green", "blue"), missing="slot"),
            CategoricalFeature("user", "int64", num_hash_buckets=50),
            CategoricalFeature("tags", "string", vocabulary=("a", "b", "c"), length=2, missing="slot"),
            NumericFeature("age", "standard", mean=40.0, std=10.0, boundaries=(30.0, 50.0), missing="slot"),
        ),
        axes=(("age",), ("color",)),
    )


def draw_rows(num_rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Raw rows of `small_schema`: the label depends on another feature below 30 and from 50 years on."""
    rng = np.random.default_rng(seed)
    rows: dict[str, np.ndarray] = {
        "color": rng.choice(np.array(["red", "green", "blue", "pink", ""], object), num_rows),
        "user": rng.integers(0, 200, num_rows),
        "tags": rng.choice(np.array(["a", "b", "c"], object), (num_rows, 2)),
        "age": rng.uniform(15, 70, num_rows).astype(np.float32),
    }
    rows["tags"][::3, 1] = ""
    score = np.where(rows["age"] < 30, rows["color"] == "red", rows["user"] % 2 == 0) - 1.0 - (rows["age"] >= 50)
    rows["label"] = (rng.random(num_rows) < 1 / (1 + np.exp(-2 * score))).astype(np.float32)
    return rows


@pytest.fixture(scope="session")
def small_rows() -> Callable[..., dict[str, np.ndarray]]:
    """`draw_rows(num_rows, seed=0)`."""
    return draw_rows


@pytest.fixture(scope="session")
def small_cohorts() -> Any:
    """A young and an old cohort."""
    from c2al_tf.cohorts import Cohort, Interval

    return (Cohort("young", (Interval("age", high=30.0),)), Cohort("old", (Interval("age", low=50.0),)))


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory, small_schema: Any) -> Path:
    """1,000 rows of `small_schema` in a Parquet file."""
    from c2al_tf.data.columns.shards import write_parquet

    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    write_parquet(path, [draw_rows(1000)], small_schema.columns)
    return path
