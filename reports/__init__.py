"""Readable output made from Arrow and JSON result files."""
