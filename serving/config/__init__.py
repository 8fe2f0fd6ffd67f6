"""tensorflow_model_server's own files: models, batching, monitoring, TLS."""
