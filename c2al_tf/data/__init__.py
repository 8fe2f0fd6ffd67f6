"""Files to raw columns, raw columns to what a model is fed, and raw rows to files and a schema.

- `columns`: Parquet, CSV and TFRecord files to raw columns and back, and the rules that rows must satisfy.
- `preparation`: a source of rows to sharded files and a schema.
- `inputs`: raw columns to batches of (model inputs, labels, weight).

`preparation` and `inputs` build on `columns` and do not know each other. Nothing is imported here: `preparation` needs
no TensorFlow, so it must not load it.
"""
