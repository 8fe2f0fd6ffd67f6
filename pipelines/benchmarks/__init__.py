"""Measurements: how fast we are beside what else there is, and what takes minutes to show.

`python -m c2al_pipelines.benchmarks`, or `make bench`, runs every benchmark that `__main__` names, prints a table of
each and writes `bench.json`, `bench.md` and `machine.json`. Each figure has ours and a peer's side, measured in turns
in one run, so that what disturbs the machine disturbs both.

To add a benchmark:

1.  Write a module here with `run(quick)`, which yields `results.Result`s as they come. Its docstring becomes the text
    above its table: say what is trained on what. With `quick` it goes through the same code at tiny sizes. What it
    logs, with `logging.getLogger(__name__)`, is shown while it runs.
2.  Measure both sides in turns: `results.compare` for two callables, `results.alternate` for more. A side that needs a
    process of its own, for its memory or because TensorFlow and PyTorch share none, is a `contenders.Contender`, and
    `contenders.race` takes turns between those; `workers` says how to write one, `peers` has those there are.
3.  Compare with a bound where there is one: `machine` measures the arithmetic peak and the bandwidths.
4.  Name the module in `__main__.BENCHMARKS`.

Modules without `run` are commands of their own, with a `main`: they show something that is not a rate.
"""
