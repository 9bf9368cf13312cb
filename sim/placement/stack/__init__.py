"""Placement over any number of tiers: schedules, their cost, policies, and the comparison."""
