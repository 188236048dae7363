"""Small pictures, as lists of shapes that a template draws. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle in percent of the picture; `key` names its colour."""

    x: float
    y: float
    width: float
    height: float
    key: str
    label: str = ""


def stacked(columns: Sequence[Sequence[tuple[str, int]]], labels: Sequence[str]) -> list[Block]:
    """Stacked bars, one for each column of (key, number); the highest fills the picture."""
    highest = max((sum(number for _, number in column) for column in columns), default=0)
    if not highest:
        return []
    width = 100 / len(columns)
    blocks: list[Block] = []
    for place, (column, label) in enumerate(zip(columns, labels, strict=True)):
        top = 100.0
        for key, number in column:
            if number:
                height = number * 100 / highest
                top -= height
                blocks.append(Block(place * width + width * 0.1, top, width * 0.8, height, key, label))
    return blocks


def shares(parts: Sequence[tuple[str, int]]) -> list[Block]:
    """One bar, divided in the proportion of (key, number)."""
    total = sum(number for _, number in parts)
    blocks: list[Block] = []
    left = 0.0
    for key, number in parts:
        if number:
            width = number * 100 / total
            blocks.append(Block(left, 0, width, 100, key, key))
            left += width
    return blocks
