"""Readers of other projects' trace formats, each giving a requests table."""
