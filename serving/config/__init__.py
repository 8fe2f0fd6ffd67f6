"""Files in tensorflow_model_server's format: models, batching, monitoring, TLS."""
