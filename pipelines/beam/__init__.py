"""Rows of any number: scored, searched for cohorts and evaluated in pieces, in this process or by Apache Beam.

The sums over pieces are the library's own values (`RowSample`, `CohortCounts`, `ArmCounts`), so every figure is that of
all rows at once: Beam only adds.
"""
