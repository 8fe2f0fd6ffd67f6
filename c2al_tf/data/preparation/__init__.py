"""A source of rows to sharded Parquet files and a schema.

`source` declares rows and features, `statistics` summarizes columns in one pass, `learned_schema` turns the summaries
into a schema, `negatives` samples rows, `prepare` writes the files.
"""
