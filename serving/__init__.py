"""Clients and an embedded server of TensorFlow Serving's API.

`c2al_serving.client` and `async_client` need grpc, protobuf and NumPy alone; `c2al_serving.server` runs SavedModels on
TensorFlow's C++ runtime. Nothing is imported from here, so that a client does not load a server.
"""

from importlib.util import find_spec

if find_spec("grpc") is None:  # without, nothing here works; with it a client loads nothing of c2al_tf
    from c2al_tf.extras import require

    require("client")
