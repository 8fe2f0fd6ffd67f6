"""What the embedded server must bear, shown on a server process: overload, mutated requests, killed publishers, swaps.

Each proof is a command, such as `python -m c2al_pipelines.benchmarks.serving_proofs.overload`: it prints its verdict,
writes it as JSON where `--output` says, and ends with status 1 if something does not hold.
"""
