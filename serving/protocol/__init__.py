"""What both sides speak: TensorFlow Serving's messages, tensors and status codes."""
