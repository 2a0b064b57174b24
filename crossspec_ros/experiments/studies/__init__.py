"""The experiments, found by `experiments.registry`: each module here has one `EXPERIMENT`."""
