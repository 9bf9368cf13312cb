"""Certificates: the time that no placement beats, the hits that no prefix cache passes."""
