"""The predictions that the notebooks ask for. Which option is right is decided by a run."""
