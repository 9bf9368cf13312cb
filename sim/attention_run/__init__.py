"""Runs of recorded attention: a batch decodes in lockstep over pages in two tiers."""
