"""Comparisons in the game itself tell what differs, like those in tests."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.model.life")
