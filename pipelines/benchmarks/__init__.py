"""Measurements of speed and memory beside other libraries, and of properties that take minutes to show.

`python -m c2al_pipelines.benchmarks`, or `make bench`, runs every benchmark that `__main__` names, prints a table of
each and writes `bench.json`, `bench.md` and `machine.json`. Ours and a peer are measured in turns in one run, so that a
disturbance of the machine affects both.

To add a benchmark:

1.  Write a module here with `run(quick)`, which yields each `results.Result` when it is measured. Its docstring becomes
    the text above its table: name the model and the data. With `quick` it runs the same code at tiny sizes. Messages to
    `logging.getLogger(__name__)` are shown while it runs.
2.  Measure both sides in turns: `results.compare` for two callables, `results.alternate` for more. A side that needs a
    process of its own, for its memory or because TensorFlow and PyTorch cannot share one, is a `contenders.Contender`;
    `race.race` measures these in turns. `workers` explains how to write one, `peers` lists the existing ones.
3.  Compare with a bound where there is one: `machine` measures the arithmetic peak and the bandwidths.
4.  Name the module in `__main__.BENCHMARKS`.

The modules of `serving_proofs` are commands of their own.
"""
