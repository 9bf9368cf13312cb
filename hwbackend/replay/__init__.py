"""Operations that were predicted, carried out again: on the simulated backend, or on GPUs."""
