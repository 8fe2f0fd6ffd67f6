"""Contenders that need a process of their own: for its memory, or because two libraries do not share one.

A worker is a module that is run with one argument, a JSON object, and that talks in JSON lines:

    {"num_weights": 53505, "compile_seconds": 4.2}          says the worker, when it has warmed up: two steps
    {"steps": 20}                                           asks the benchmark
    {"seconds": 0.61, "peak_mb": 812.4, "loss": 0.68}       answers the worker

so that only the worker that is asked computes. It ends when its standard input does. `serving.serve` does
all of this except the steps: a new worker builds a model from the JSON object and returns a callable that trains it.
`contenders` starts it, waits for it and closes it.

What runs here needs the standard library, NumPy and its own framework; of this project only `machine`.
"""
