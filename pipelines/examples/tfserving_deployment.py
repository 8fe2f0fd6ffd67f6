"""I have a TensorFlow Serving deployment: how does a model that was trained with cohort heads get there, and back?

    .venv/bin/python pipelines/examples/tfserving_deployment.py

It trains and serves a model, trains it on with cohort heads, proves the new version against the one that is served,
publishes it beside that, and rolls back. Requests are those of today's clients, by TensorFlow Serving's own stubs. They
go to this project's server, or with `--server HOST:PORT` to a tensorflow_model_server that serves the base path:

    tensorflow_model_server --port=8500 --model_name=ranker --model_base_path=$PWD/runs/deployment/ranker

Versions that an earlier call left in the folder of `--output` are removed.
"""

import argparse
import contextlib
import shlex
import shutil
import time
from pathlib import Path

import grpc
import keras
import numpy as np
import tensorflow as tf
from c2al_pipelines import cli
from c2al_serving.config.model_config import ModelConfig
from c2al_serving.server import Server
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import c2al_tf

MODEL = "ranker"
PINNED = """model_config_list {{ config {{
  name: "{name}" base_path: "{base_path}" model_platform: "tensorflow"
  model_version_policy {{ specific {{ versions: 1 }} }}
}} }}
"""


def make_model() -> keras.Model:
    """Stands for your model."""
    inputs = {name: keras.Input((), name=name) for name in ("age", "hour")}
    x = keras.layers.Concatenate()([keras.layers.Reshape((1,))(each / 50) for each in inputs.values()])
    h = keras.layers.Dense(16, "relu", name="last_hidden")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, name="score")(h))
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    return model


def draw_rows(number: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns (number,) and clicks: the old click at other hours than the young."""
    rng = np.random.default_rng(0)
    age, hour = rng.uniform(18, 80, number), rng.uniform(0, 24, number)
    rate = 0.1 + 0.3 * np.where(age < 50, hour > 18, hour < 10)
    columns = {"age": age.astype(np.float32), "hour": hour.astype(np.float32)}
    return columns, (rng.random(number) < rate).astype(np.float32)


def c2al(*words: object) -> None:
    """Prints a command, and runs it in this process."""
    print("$ c2al", shlex.join(map(str, words)), flush=True)
    cli.main([str(word) for word in words])


def ask(target: str, rows: dict[str, np.ndarray]) -> tuple[int, np.ndarray]:
    """What a client of today does: the version that answered, and scores (rows,)."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    for name, column in rows.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(column))
    with grpc.insecure_channel(target) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    (scores,) = answer.outputs.values()
    return answer.model_spec.version.value, tf.make_ndarray(scores)[:, 0]


def wait_for(target: str, version: int, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Asks until a version answers; returns its scores (rows,)."""
    for _ in range(600):
        with contextlib.suppress(grpc.RpcError):  # a server that was just started
            answered, scores = ask(target, rows)
            if answered == version:
                print(f"version {version} answers: {scores[:3]}")
                return scores
        time.sleep(0.1)
    raise TimeoutError(f"{target}: version {version} does not answer within a minute")


def deploy(target: str, output: Path, columns: dict[str, np.ndarray], clicks: np.ndarray) -> None:
    """Trains the served model on with cohort heads, publishes it as version 2, and rolls back to version 1."""
    base, staging = output / MODEL, output / "staging"
    request = {name: column[:64] for name, column in columns.items()}
    before = wait_for(target, 1, request)

    model = keras.saving.load_model(output / "model.keras")
    predictions = keras.ops.sigmoid(model.predict(columns, batch_size=1024, verbose=0)[:, 0])
    found = c2al_tf.discover_cohorts(predictions, columns, ["age"], labels=clicks)
    cohorts = found.best.cohorts
    training = c2al_tf.with_cohort_heads(model, "last_hidden", [cohort.name for cohort in cohorts], weight=0.1)
    rows = tf.data.Dataset.from_tensor_slices((columns, clicks)).batch(256)
    training.fit(c2al_tf.add_cohort_labels(rows, cohorts, keep=model), shuffle=False, verbose=0)

    c2al_tf.export_for_serving(model, staging, version=2, sample=request, reference=base / "1")
    c2al("verify-export", staging / "2")
    shutil.copytree(staging / "2", base / "2.copying")
    (base / "2.copying").rename(base / "2")  # a server never sees half a version
    np.testing.assert_allclose(
        wait_for(target, 2, request), model.predict(request, verbose=0)[:, 0], rtol=1e-5, atol=1e-5
    )

    pinned = output / "version_1.config"
    pinned.write_text(PINNED.format(name=MODEL, base_path=base.resolve()))
    c2al("reload-config", pinned, "--server", target)
    np.testing.assert_allclose(wait_for(target, 1, request), before, rtol=1e-5, atol=1e-5)


def main() -> None:
    """Trains and exports version 1 as it is served today, and goes on from there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000, help="training rows")
    parser.add_argument("--server", help="gRPC address, HOST:PORT, of a server of the base path; by default ours")
    parser.add_argument("--output", type=Path, default=Path("runs/deployment"), help="folder of all that is written")
    options = parser.parse_args()

    for version in (*(options.output / MODEL).glob("*"), *(options.output / "staging").glob("*")):  # of an earlier call
        shutil.rmtree(version)
    columns, clicks = draw_rows(options.rows)
    keras.utils.set_random_seed(0)
    model = make_model()
    model.fit(columns, clicks, batch_size=256, verbose=0)
    (options.output / MODEL).mkdir(parents=True, exist_ok=True)
    model.save(options.output / "model.keras")
    model.export(options.output / MODEL / "1", verbose=False)
    if options.server:
        deploy(options.server, options.output, columns, clicks)
    else:
        with Server([ModelConfig(MODEL, options.output / MODEL)]) as server:
            deploy(f"127.0.0.1:{server.grpc_port}", options.output, columns, clicks)


if __name__ == "__main__":
    main()
