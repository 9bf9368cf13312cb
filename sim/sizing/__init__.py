"""What a model takes: weights and KV by group, what an engine holds, and where it fits."""
