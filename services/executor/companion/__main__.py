"""Runs the sandbox beside executors: `python -m services.executor.companion`."""
