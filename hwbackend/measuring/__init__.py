"""Measuring: samples of device work and of driver calls, a machine's facts, clock and power."""
