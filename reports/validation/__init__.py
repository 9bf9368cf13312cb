"""The validation report: what a check of GPU cases found, as a page with figures."""
