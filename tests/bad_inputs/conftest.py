"""A world of its own for every test."""

from tests.engines.conformance.conftest import world as world
