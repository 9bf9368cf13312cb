"""Recorders: run a real model and write down which pages its attention reads."""
