import contextlib
import json
import resource
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from c2al_tf.training import checkpoint
from c2al_tf.training.checkpoint import Checkpoints

DAMAGED = r"the checkpoint is damaged \(its CRC-32 is [0-9a-f]{8}\)"
PROPERTY = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], derandomize=True
)


def build(units: int = 4, optimizer: keras.optimizers.Optimizer | None = None, dtype: str = "float32") -> keras.Model:
    layers = [keras.layers.Dense(units, dtype=dtype), keras.layers.Dropout(0.5), keras.layers.Dense(1, dtype=dtype)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(optimizer=optimizer or keras.optimizers.Adam(0.1))
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build()


def values(model: keras.Model) -> list[bytes]:
    return [np.asarray(variable.value).tobytes() for variable in (*model.variables, *model.optimizer.variables)]


def weights(model: keras.Model) -> list[bytes]:
    return [weight.tobytes() for weight in model.get_weights()]


def scramble(model: keras.Model, seed: int) -> list[bytes]:
    """Any bits for every number, as in a run that went on; returns them."""
    rng = np.random.default_rng(seed)
    for variable in (*model.variables, *model.optimizer.variables):
        drawn = np.frombuffer(rng.bytes(np.asarray(variable.value).nbytes), np.asarray(variable.value).dtype)
        variable.assign(drawn.reshape(variable.shape))
    return values(model)


@pytest.fixture
def saved(model: keras.Model, tmp_path: Path) -> tuple[Path, list[list[bytes]]]:
    """A folder with the checkpoints of two steps, and the values at each."""
    checkpoints = Checkpoints(model, tmp_path)
    states = []
    for step in (1, 2):
        states.append(scramble(model, step))
        checkpoints.save({"step": step})
    scramble(model, 3)
    return tmp_path, states


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def numbers(folder: Path) -> list[int]:
    return [int(path.name.split("-")[0]) for path in files(folder)]


OPTIMIZERS: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "adam": lambda: keras.optimizers.Adam(0.1, use_ema=True, gradient_accumulation_steps=2),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adagrad(0.1)),
    "two": lambda: keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras.optimizers.Adam(0.1), {".*bias": keras.optimizers.Adagrad(0.1)})
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_another_model_goes_on_where_the_first_was(optimizer: str, dtype: str, tmp_path: Path) -> None:
    """Weights, optimizer and dropout's random state: the next steps are the same to the bit."""

    def step(model: keras.Model) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(np.ones((8, 3), np.float32), training=True) ** 2)
            loss = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)

    first, second = (build(optimizer=OPTIMIZERS[optimizer](), dtype=dtype) for _ in range(2))
    for _ in range(3):
        step(first)
    Checkpoints(first, tmp_path).save({"epoch": 1, "loss": float("nan")})
    assert values(second) != values(first)
    position = Checkpoints(second, tmp_path).restore()
    assert position.pop("loss") != 0
    assert position == {"epoch": 1}
    assert values(second) == values(first)
    for _ in range(2):
        step(first)
        step(second)
    assert values(second) == values(first)


def test_numpy_alone_reads_a_checkpoint(model: keras.Model, saved: tuple[Path, list[list[bytes]]]) -> None:
    folder, states = saved
    assert [path.name[:18] for path in files(folder)] == ["000001-best-000000", "000002-best-000000"]
    with np.load(files(folder)[-1]) as arrays:
        assert json.loads(arrays["position.json"]) == {"step": 2}
        names = [name for name in arrays.files if name != "position.json"]
        assert names[0] == "model:0:kernel"
        assert names[-1].startswith("optimizer:")
        assert [arrays[name].tobytes() for name in names] == states[1]
        assert arrays[names[0]].shape == (3, 4)
    assert zipfile.ZipFile(files(folder)[-1]).testzip() is None


def test_a_variable_of_many_pieces(model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Checkpoints(model, tmp_path / "whole").save({})
    monkeypatch.setattr(checkpoint, "_PIECE", 20)  # neither a divisor nor a multiple of a row
    Checkpoints(model, tmp_path / "pieces").save({})
    with np.load(files(tmp_path / "whole")[0]) as whole, np.load(files(tmp_path / "pieces")[0]) as pieces:
        assert whole.files == pieces.files
        for name in set(whole.files) - {"position.json"}:
            assert whole[name].tobytes() == pieces[name].tobytes()
            assert whole[name].shape == pieces[name].shape


def test_saving_a_table_copies_a_small_part_of_it(tmp_path: Path) -> None:
    table = keras.Sequential([keras.Input((1,)), keras.layers.Embedding(4_000_000, 16)])
    table.compile(optimizer=keras.optimizers.SGD())
    table.weights[0].value.scatter_nd_add([[3]], np.ones((1, 16), np.float32))  # after this TensorFlow reads by copying
    bound = table.weights[0].value.shape.num_elements() * 4 // 3

    def memory(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    before = memory("VmRSS")
    Checkpoints(table, tmp_path).save({})
    assert memory("VmHWM") - before < bound


# Damage


def restore_before(model: keras.Model, folder: Path, message: str, states: list[list[bytes]]) -> None:
    with pytest.warns(UserWarning, match=message) as warned:
        position = Checkpoints(model, folder).restore()
    assert len(warned) == 1
    assert f"The run goes on from {files(folder)[0].name}" in str(warned[0].message)
    assert position == {"step": 1}
    assert values(model) == states[0]


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@PROPERTY
def test_any_flipped_byte_is_found(place: float, flip: int, model, saved) -> None:
    folder, states = saved
    newest = files(folder)[-1]
    sound = newest.read_bytes()
    data = bytearray(sound)
    data[int(place * len(data))] ^= flip
    newest.write_bytes(data)
    restore_before(model, folder, rf"{newest}: {DAMAGED}\. The run goes on", states)
    newest.write_bytes(sound)
    assert Checkpoints(model, folder).restore() == {"step": 2}
    assert values(model) == states[1]


@given(share=st.floats(0, 1, exclude_max=True), zeros=st.booleans())
@PROPERTY
def test_any_torn_file_is_found(share: float, zeros: bool, model, saved) -> None:
    """Cut off, or with zeros from there on, as after a power cut."""
    folder, states = saved
    newest = files(folder)[-1]
    sound = newest.read_bytes()
    kept = sound[: int(share * len(sound))]
    torn = kept.ljust(len(sound), b"\0") if zeros else kept
    assume(torn != sound)
    newest.write_bytes(torn)
    restore_before(model, folder, DAMAGED, states)
    newest.write_bytes(sound)


def test_files_that_swapped_places(model, saved) -> None:
    folder, _ = saved
    first, second = files(folder)
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{second}: {DAMAGED}; {first}: {DAMAGED}"):
        Checkpoints(model, folder).restore()


def test_a_file_that_is_gone(model, saved) -> None:
    folder, states = saved
    files(folder)[-1].unlink()
    assert Checkpoints(model, folder).restore() == {"step": 1}
    assert values(model) == states[0]


def test_a_file_that_cannot_be_read(model, saved) -> None:
    folder, states = saved
    newest = files(folder)[-1]
    newest.unlink()
    newest.mkdir()  # an error of the disk cannot be had in a test
    restore_before(model, folder, rf"{newest}: the checkpoint cannot be read \(Is a directory\)", states)


def test_none_is_sound(model, saved) -> None:
    folder, _ = saved
    before = values(model)
    for path in files(folder):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"None is left: remove {folder} to train from the start") as raised:
        Checkpoints(model, folder).restore()
    assert all(str(path) in str(raised.value) for path in files(folder))
    assert values(model) == before


def test_nothing_saved(model, tmp_path) -> None:
    before = values(model)
    checkpoints = Checkpoints(model, tmp_path / "none")
    assert checkpoints.restore() == {}
    checkpoints.return_to_best()
    assert values(model) == before


def test_what_was_damaged_takes_no_place_of_what_is_kept(model, saved) -> None:
    folder, _ = saved
    files(folder)[-1].write_bytes(b"")
    checkpoints = Checkpoints(model, folder, keep=2)
    with pytest.warns(UserWarning, match=DAMAGED):
        checkpoints.restore()
    checkpoints.save({"step": 2})
    assert numbers(folder) == [1, 3]


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (lambda: build(units=5), r"'model:0:kernel', \(3, 4\), 4"),
        (lambda: build(optimizer=keras.optimizers.Adagrad(0.1)), r"'optimizer:.*accumulator'"),
        (lambda: build(dtype="float16"), r"'model:0:kernel', \(3, 4\), 2"),
    ],
)
def test_of_another_model_or_optimizer(other, difference, saved) -> None:
    folder, _ = saved
    other = other()
    before = values(other)
    message = rf"of another model, optimizer or objective; they differ in \[.*{difference}.*Remove the folder"
    with pytest.raises(ValueError, match=message):
        Checkpoints(other, folder).restore()
    assert values(other) == before


# What is kept


@given(keep=st.integers(1, 4), saves=st.lists(st.booleans(), min_size=1, max_size=8), victim=st.integers(0, 99))
@PROPERTY
def test_the_last_and_the_best_are_kept_and_any_one_may_be_damaged(
    keep, saves, victim, model, tmp_path_factory
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoints = Checkpoints(model, folder, keep)
    states, trained, best = [], [], []
    for number, is_best in enumerate(saves, 1):
        states.append(scramble(model, number))
        trained.append(weights(model))
        best.append(number if is_best else best[-1] if best else 0)
        if is_best:
            checkpoints.remember_best()
        checkpoints.save({"number": number})
    last = list(range(1, len(saves) + 1))[-keep:]
    assert set(numbers(folder)) >= {*last, best[-1]} - {0}
    assert len(numbers(folder)) <= keep + 3 * len(set(best[-keep:]))
    if not any(saves):
        assert numbers(folder) == last

    path = files(folder)[victim % len(files(folder))]
    path.write_bytes(path.read_bytes()[:-1])
    resumed = Checkpoints(model, folder, keep)
    damaged = int(path.name[:6])
    if all(damaged in (number, best[number - 1]) for number in numbers(folder)):
        assert damaged == 1 or keep == 1
        with pytest.raises(ValueError, match="None is left"):
            resumed.restore()
        return
    number = restore_quietly(resumed)
    assert values(model) == states[number - 1]
    resumed.return_to_best()
    assert weights(model) == trained[(best[number - 1] or number) - 1]


def restore_quietly(checkpoints: Checkpoints) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return checkpoints.restore()["number"]


@pytest.mark.parametrize(
    ("keep", "best", "kept"),
    [
        (2, (), [5, 6]),
        (2, (3,), [2, 3, 5, 6]),  # 2: what is left if 3 is damaged
        (1, (1, 3), [1, 2, 3, 6]),  # 1: the best one of 2
        (1, (1, 3, 6), [3, 5, 6]),
        (3, (6,), [4, 5, 6]),
    ],
)
def test_kept_are_the_last_the_best_and_the_one_before_it(keep, best, kept, model, tmp_path) -> None:
    checkpoints = Checkpoints(model, tmp_path, keep)
    for number in range(1, 7):
        if number in best:
            checkpoints.remember_best()
        checkpoints.save({})
    assert numbers(tmp_path) == kept


def test_without_a_folder_the_best_weights_are_in_memory(model, tmp_path) -> None:
    checkpoints = Checkpoints(model, None)
    assert checkpoints.restore() == {}
    scramble(model, 1)
    best = weights(model)
    checkpoints.remember_best()
    checkpoints.save({})
    scramble(model, 2)
    checkpoints.return_to_best()
    assert weights(model) == best


def test_best_weights_that_were_damaged_meanwhile_are_not_assigned(model, tmp_path) -> None:
    checkpoints = Checkpoints(model, tmp_path)
    checkpoints.save({})
    checkpoints.remember_best()
    checkpoints.save({})
    checkpoints.save({})
    files(tmp_path)[1].write_bytes(b"")
    before = values(model)
    with pytest.raises(
        ValueError, match=rf"{DAMAGED}, and with it the best weights of 000003.*The same command goes on"
    ):
        checkpoints.return_to_best()
    assert values(model) == before


def test_keep_at_least_one(model, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"`keep` must be at least 1\. Received: keep=0"):
        Checkpoints(model, tmp_path, keep=0)


# What goes wrong while a checkpoint is written


@contextlib.contextmanager
def files_of_at_most(size: int):
    """As on a full disk: writing beyond fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_full_disk_costs_no_checkpoint(share: float, model, saved) -> None:
    folder, states = saved
    there = {path: path.read_bytes() for path in files(folder)}
    checkpoints = Checkpoints(model, folder, keep=1)
    with (
        files_of_at_most(int(share * len(there[files(folder)[-1]]))),
        pytest.raises(OSError, match=r"File too large; checkpoint 000003 is not written, those before it") as raised,
    ):
        checkpoints.save({"step": 3})
    assert raised.value.filename == str(folder)
    assert {path: path.read_bytes() for path in files(folder)} == there
    assert Checkpoints(model, folder).restore() == {"step": 2}
    assert values(model) == states[1]
    checkpoints.save({"step": 3})
    assert numbers(folder) == [3]


def test_nothing_is_removed_before_the_new_one_has_its_name(model, saved, monkeypatch) -> None:
    folder, _ = saved
    there = files(folder)
    publish, seen = checkpoint.publish, []

    def recording_publish(temporary: Path, target: Path) -> None:
        seen.append(files(folder))
        publish(temporary, target)
        seen.append(files(folder))

    monkeypatch.setattr(checkpoint, "publish", recording_publish)
    Checkpoints(model, folder, keep=1).save({})
    before, after = seen
    assert set(before) > set(there)
    assert set(after) > set(there)
    assert numbers(folder) == [3]


def test_what_a_killed_process_left_is_no_checkpoint_and_is_removed(model, saved) -> None:
    folder, states = saved
    left = folder / ".partial-1-checkpoint.npz"
    left.write_bytes(files(folder)[0].read_bytes()[:100])
    (folder / "notes.txt").write_text("mine")
    checkpoints = Checkpoints(model, folder)
    assert checkpoints.restore() == {"step": 2}
    assert values(model) == states[1]
    checkpoints.save({"step": 3})
    assert not left.exists()
    assert (folder / "notes.txt").exists()
    assert len(files(folder)) == 4
