"""Prefix caches over a trace: what policies find, what the best could, and its worth."""
