"""One loaded version of a model, which answers requests.

`decoding` reads their tensors, `batching` merges and runs them, `encoding` writes the outputs; `servable` combines the
three for Predict, `inference` adds Classify, Regress and MultiInference, `loading` warms a version up.
"""
