"""One loaded version of a model, which answers requests.

`reading` makes arrays of their tensors, `batching` merges and runs them; `servable` combines the two for Predict,
`inference` adds Classify, Regress and MultiInference, `loading` warms a version up.
"""
