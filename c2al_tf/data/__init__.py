"""From files to what a model is fed, and from raw rows to files.

Reading: `readers` (Parquet, CSV and TFRecord to raw columns; `arrow` and `examples` know the two kinds of values),
`checks` (what rows must satisfy), `stream` (their order), `features` (raw columns to model inputs), `labels` (auxiliary
labels), `dataset` (all of it as one `tf.data.Dataset`). Writing: `statistics` and `prepare`.

Nothing is imported here, so that `prepare`, which needs no TensorFlow, does not load it.
"""
