"""Where the frames of the Redis protocol end; nothing of their meaning."""

from __future__ import annotations

from typing import Final

_AGGREGATES: Final = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}
_BULKS: Final = frozenset(b"$=!")
INCOMPLETE: Final = -1


def frame_end(buffer: bytes | bytearray, start: int) -> int:
    """The position after the frame that begins at `start`; INCOMPLETE if the buffer ends before it.

    Raises:
        ValueError: what stands there is no frame.
    """
    position, needed = start, 1
    while needed:
        line_end = buffer.find(b"\r\n", position)
        if line_end < 0:
            return INCOMPLETE
        kind, needed = buffer[position], needed - 1
        if kind in _BULKS:
            length = int(buffer[position + 1 : line_end])
            position = line_end + 2 + (length + 2 if length >= 0 else 0)
            if position > len(buffer):
                return INCOMPLETE
            continue
        if kind in _AGGREGATES:
            needed += max(0, int(buffer[position + 1 : line_end])) * _AGGREGATES[kind] + (kind == ord("|"))
        position = line_end + 2
    return position


def words_of(frame: bytes | bytearray, count: int) -> list[bytes]:
    """The first words of a command, which is an array of bulk strings."""
    words: list[bytes] = []
    position = frame.find(b"\r\n") + 2
    while len(words) < count and position < len(frame):
        line_end = frame.find(b"\r\n", position)
        length = int(frame[position + 1 : line_end])
        words.append(bytes(frame[line_end + 2 : line_end + 2 + length]))
        position = line_end + 2 + length + 2
    return words
