"""Validation cases, measured: what `vsim.sim.fidelity.gpu` describes and predicts."""
