"""Checks of Arrow traces: what a file of each kind may hold, and row and column of what not."""
