"""Writes the model that `conformance.py` asks about, and a model_config_list that both servers read.

    python serving/model_server/conformance_model.py /tmp/conformance

gives `default/1`, `default/2` and `models.config`, which serves both versions, with labels, as `default` and `a/b c`.
Version v adds v to `score` and `rank`; the other outputs are the same in both.
"""

import sys
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

EXAMPLES = tf.TensorSpec([None], tf.string)
COLUMNS = {
    "city": tf.TensorSpec([None], tf.string, "city"),
    "user": tf.TensorSpec([None], tf.int64, "user"),
    "price": tf.TensorSpec([None], tf.float32, "price"),
    "tags": tf.TensorSpec([None, None], tf.string, "tags"),
}
NUMBERS = {"i": tf.int32, "d": tf.float64, "b": tf.bool, "u": tf.uint8, "h": tf.float16}
DEFAULTS = {"price": 4.0, "factor": 3.0}
"""Values of inputs of the signature `defaults`, which requests may leave out."""
CONFIG = """  config {{
    name: "{name}" base_path: "{path}" model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
    version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }}
  }}"""


def signatures(version: float) -> dict[str, Any]:
    """The functions of a version by signature."""

    def columns(city: Any, user: Any, price: Any, tags: Any) -> dict[str, Any]:
        return {
            "score": tf.reshape(2 * price + version, [-1, 1]),
            "rank": user + int(version),
            "place": tf.strings.reduce_join(tf.concat([city[:, None], tags], 1), 1, separator="/"),
            "city_bytes": city,
        }

    def examples(examples: Any) -> dict[str, Any]:
        form = {"city": tf.io.FixedLenFeature([], tf.string, ""), "tags": tf.io.FixedLenFeature([2], tf.string)}
        numbers = {"user": tf.io.FixedLenFeature([], tf.int64), "price": tf.io.FixedLenFeature([], tf.float32)}
        return columns(**tf.io.parse_example(examples, form | numbers))

    def price(inputs: Any) -> Any:
        return tf.io.parse_example(inputs, {"price": tf.io.FixedLenFeature([], tf.float32)})["price"]

    def classify(inputs: Any) -> dict[str, Any]:
        x = price(inputs)
        return {"classes": tf.tile([["no", "yes"]], [tf.size(x), 1]), "scores": tf.stack([1 - x, x], 1)}

    def spec(name: str, dtype: Any, *shape: int | None) -> Any:
        return tf.TensorSpec(shape, dtype, name)

    vector = [spec("x", tf.float32, None)]
    made = {
        "serving_default": (columns, list(COLUMNS.values())),
        "serialized_examples": (examples, [spec("examples", tf.string, None)]),
        "classify": (classify, [spec("inputs", tf.string, None)]),
        "regress": (lambda inputs: {"outputs": 2 * price(inputs)}, [spec("inputs", tf.string, None)]),
        "scores": (lambda inputs: {"scores": classify(inputs)["scores"]}, [spec("inputs", tf.string, None)]),
        "defaults": (
            lambda price, factor: {"product": price * factor},
            [spec("price", tf.float32, None), spec("factor", tf.float32)],
        ),
        "single": (lambda x: {"y": 2 * x}, [spec("x", tf.float32, None, 2)]),
        "total": (lambda x: {"sum": tf.reduce_sum(x)}, vector),
        "shapes": (lambda x: {"all": x, "first": x[:1]}, vector),
        "texts": (lambda s: {"t": s}, [spec("s", tf.string, None)]),
        "bytes": (lambda s: {"t_bytes": s}, [spec("s", tf.string, None)]),
        "numbers": (
            lambda **given: {f"{name}_out": value for name, value in given.items()},
            {name: spec(name, dtype, None) for name, dtype in NUMBERS.items() if name != "h"},
        ),
        "half": (lambda h: {"h_out": h}, [spec("h", tf.float16, None)]),
    }
    return {name: _function(call, specs) for name, (call, specs) in made.items()}


def _function(call: Any, specs: Any) -> Any:
    if isinstance(specs, dict):
        return tf.function(call).get_concrete_function(**specs)
    return tf.function(call, input_signature=specs)


def save(directory: Path, version: float) -> None:
    """Writes a version, with method names and default values, which TensorFlow 2 does not write by itself."""
    tf.saved_model.save(tf.Module(), str(directory), signatures=signatures(version))
    file = directory / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    stored = model.meta_graphs[0].signature_def
    for name in ("classify", "regress"):
        stored[name].method_name = f"tensorflow/serving/{name}"
    for name, value in DEFAULTS.items():
        shape = () if name == "factor" else (1,)
        stored["defaults"].defaults[name].CopyFrom(tf.make_tensor_proto(value, tf.float32, shape))
    file.write_bytes(model.SerializeToString())


def write(folder: Path) -> None:
    """Writes versions 1 and 2, and the config."""
    base_path = folder.absolute() / "default"
    for version in (1, 2):
        save(base_path / str(version), version)
    models = "\n".join(CONFIG.format(name=name, path=base_path) for name in ("default", "a/b c"))
    (folder / "models.config").write_text(f"model_config_list {{\n{models}\n}}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
