"""Fidelity: what real servers measured, what is predicted for them, and the difference."""
