"""Importing this raises ImportError where `tf.keras` is not Keras 2, which tensorflow-recommenders is made of."""

import os

import tensorflow as tf

if hasattr(tf.keras, "version"):  # Keras 2 has none
    raise ImportError(
        "tensorflow-recommenders runs on Keras 2: set TF_USE_LEGACY_KERAS=1 in the environment of the process, before "
        "TensorFlow is imported. (`import keras` still gives Keras 3.) Received: TF_USE_LEGACY_KERAS="
        f"{os.environ.get('TF_USE_LEGACY_KERAS')!r}, `tf.keras` is Keras {tf.keras.version()}"
    )
