"""A training run of 30 steps, in one process or as one of its replicas: `replicas.py MODE TASK PORTS OUTPUT`."""

import json
import os
import sys
from pathlib import Path

STEPS, BATCH, IDS = 30, 64, 400
OBJECTIVES = ("sum", "pcgrad", "dro")


def make_objective(name):
    from c2al_tf.losses import weighted_sum_of_tasks
    from c2al_tf.objectives import GroupDRO, PCGrad

    if name == "dro":
        return GroupDRO(["rare"], eta=0.1)
    return (PCGrad if name == "pcgrad" else weighted_sum_of_tasks)({"other": 0.3})


def variables(model, objective):
    return [*model.weights, *model.optimizer.variables, *getattr(objective, "variables", ())]


def fit(strategy=None, name="sum", **arguments):
    """Trains on rows whose weights differ between the halves of a batch; the last batch is mostly padding."""
    import keras
    import numpy as np
    import tensorflow as tf

    from c2al_tf.data.inputs.sharding import Shard
    from c2al_tf.optimizers import RowWiseAdagrad
    from c2al_tf.training import train
    from c2al_tf.training.distribution import worker_shard
    from c2al_tf.types import member_of

    strategy = strategy or tf.distribute.get_strategy()
    shard: Shard = worker_shard(strategy)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        ids = keras.Input((6,), dtype="int32", name="ids")
        h = keras.layers.Flatten()(keras.layers.Embedding(2 * IDS, 8, name="embedding")(ids))
        h = keras.layers.Dense(16, "relu", name="hidden")(h)
        tasks = ("primary",) if name == "dro" else ("primary", "other")
        model = keras.Model({"ids": ids}, {task: keras.layers.Dense(1, name=task)(h) for task in tasks})
        model.compile(optimizer=RowWiseAdagrad(0.05, global_clipnorm=0.05))
        objective = make_objective(name)

    rng = np.random.default_rng(0)
    ids = rng.integers(0, IDS, (STEPS, BATCH, 6)).astype("int32")
    label = (ids.sum(-1, keepdims=True) % 3 == 0).astype("float32")
    weight = rng.random((STEPS, BATCH)).astype("float32")
    weight[:, : BATCH // 2] *= 3
    weight[-1, 5:] = 0

    untuned = tf.data.Options()  # as `tests/untuned.py`
    untuned.autotune.enabled = False

    def rows(skip=0):
        size = BATCH // shard.count
        own = slice(shard.index * size, (shard.index + 1) * size)
        labels = {"primary": label[skip:, own], "other": 1 - label[skip:, own]}
        labels[member_of("rare")] = (ids[skip:, own, :1] < IDS // 10).astype("float32")
        batches = tf.data.Dataset.from_tensor_slices(({"ids": ids[skip:, own]}, labels, weight[skip:, own]))
        return batches.with_options(untuned)

    batches = arguments.pop("batches", lambda epoch, skip: rows(skip))
    history = train(model, batches, objective, steps_per_epoch=STEPS, validation=rows, **arguments)
    return model, history, objective


def complaints(model) -> list[str]:
    """What the workers say when one of them is elsewhere in the data, and when one has other weights."""
    from c2al_tf.training.distribution import check_agreement, worker_shard

    task = worker_shard(model.distribute_strategy).index
    said = []
    for step, change in ((7 + task, 0.0), (7, float(task))):
        kernel = model.get_layer("hidden").kernel
        kernel.assign(kernel + change)
        try:
            check_agreement(model, {"epoch": 0, "step": step})
        except ValueError as error:
            said.append(str(error))
    return said


def main(mode: str, task: str, ports: str, output: str) -> None:
    if mode == "workers":
        cluster = {"worker": [f"localhost:{port}" for port in ports.split(",")]}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": int(task)}})
    import numpy as np
    import tensorflow as tf

    if mode == "devices":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    else:
        from c2al_tf.training.distribution import make_strategy

        strategy = make_strategy()
    epochs = {}
    for name in reversed(OBJECTIVES):
        several = 3 if name == "dro" else 1  # compiling several steps takes as many times as long
        model, history, objective = fit(strategy, name, steps_per_execution=several)
        np.savez(f"{output}-{name}.npz", *(variable.numpy() for variable in variables(model, objective)))
        epochs[name] = history.epochs
    said = []
    if mode == "workers":
        said = complaints(model)
    else:
        labels = {task: np.zeros((5, 1), "float32") for task in ("primary", "other")}
        odd = tf.data.Dataset.from_tensors(({"ids": np.zeros((5, 6), "int32")}, labels, np.ones(5, "float32")))
        try:
            fit(strategy, batches=lambda epoch, skip: odd)
        except ValueError as error:
            said.append(str(error))
    Path(f"{output}.json").write_text(json.dumps({"epochs": epochs, "said": said}))


if __name__ == "__main__":
    main(*sys.argv[1:])
