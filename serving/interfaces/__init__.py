"""What is listened to: gRPC and REST over the loaded models."""
