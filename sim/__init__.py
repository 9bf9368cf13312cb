"""The simulator: machine, model, workload, engine, policies, bounds and metrics."""
