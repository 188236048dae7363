"""Exceptions that are hard to store."""

from __future__ import annotations


class Unprintable(Exception):
    """One whose text can't be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Cyclic(Exception):
    """One that is its own cause."""

    def __init__(self) -> None:
        super().__init__("cyclic")
        self.__cause__ = self
        self.me = self
