"""How the server behaves under stress, measured on a process: overload, half load for minutes, swaps of versions.

Each proof is a command, such as `python -m c2al_pipelines.benchmarks.serving_proofs.overload`: it prints its verdict,
writes it as JSON where `--output` says, and ends with status 1 if a rule does not hold.
"""
