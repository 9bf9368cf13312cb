"""Policies that anneal draw few proposals here, too."""

from tests.sim.placement.conftest import _few_proposals  # noqa: F401 - a fixture
