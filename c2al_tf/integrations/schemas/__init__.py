"""A `Schema` from the columns that another library declares, and back to a parsing spec.

`make_schema` asks the module of the source, which loads that library, for each column's feature; `unknown` is what none
of them can say. `parsing_spec` goes the other way, too.
"""
