"""The files of others that come along are what their projects published, unchanged, beside their licences."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import pytest

STATIC = files("redflow.dashboard").joinpath("static")


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        (
            "htmx",
            "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
        ),  # htmx.org 2.0.11, dist/htmx.min.js
        (
            "idiomorph",
            "4cbd535caf7663a51eda9bce6595371c384fc430d54b8d414e29a61167f19f96",
        ),  # idiomorph 0.8.0, dist/idiomorph.min.js
    ],
)
def test_a_file_of_others_is_unchanged(name: str, digest: str) -> None:
    assert hashlib.sha256(STATIC.joinpath(f"{name}.min.js").read_bytes()).hexdigest() == digest
    assert "Zero-Clause BSD" in STATIC.joinpath(f"{name}.LICENSE").read_text("utf-8")
