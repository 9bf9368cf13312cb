"""Calibration: what `vsim calibrate --gpu` measures, and the machine file it writes."""
