"""Schedules of page placement: the memory they are for, what they hold when, what they cost."""
