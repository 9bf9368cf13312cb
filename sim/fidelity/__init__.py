"""Fidelity: what real servers measured, what the simulator predicts for them, and the difference."""
