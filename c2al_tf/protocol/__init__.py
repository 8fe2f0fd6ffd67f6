"""TensorFlow Serving's messages and tensors, on protobuf and NumPy: servers, clients and SavedModels share them."""
