"""Eviction policies, one file an algorithm, compiled and with a pure-Python twin."""
