"""Prefix caches over a whole trace: what policies find, what the best could, and what it is worth."""
