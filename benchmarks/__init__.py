"""Side by side with peers: the same work on the same machine in one run. `python -m benchmarks.run`."""
