"""Files to raw columns and back.

`raw` defines raw columns. `arrow` and `examples` convert Arrow arrays and tf.Examples to them, `wire` serializes them
as tf.Examples, `readers` reads files of every format, `shards` writes Parquet, `checks` holds the rules for rows.
"""
