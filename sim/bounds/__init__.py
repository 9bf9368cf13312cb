"""Certified lower bounds on the time of any placement policy."""
