"""Holding: how many bytes of bodies may be in memory at a time, in all and of one principal.

Owns the counting. Must not know what a body is for. Begin at `Holding.take`. What counts is what a body may come to, from its
first byte on: who sends it slowly fills its own share, and the others have room for theirs.
"""

SHARE = 4
"""A principal has a quarter of the room, as of what is asked of the engine (`INQUIRIES_OF_ONE_MAX`)."""


class Holding:
    """What is held now."""

    def __init__(self, bytes_max: int, of_one_min: int) -> None:
        """`of_one_min`: what a principal may hold in any case, if there is room for it at all: one body."""
        self._bytes_max = bytes_max
        self._of_one_max = max(bytes_max // SHARE, of_one_min)
        self._of: dict[str, int] = {}
        self.bytes = 0

    def has_room(self, key: str, count: int) -> bool:
        """Whether a principal may hold so many bytes more."""
        return self.bytes + count <= self._bytes_max and self._of.get(key, 0) + count <= self._of_one_max

    def take(self, key: str, count: int) -> None:
        """They are held from now on."""
        self.bytes += count
        self._of[key] = self._of.get(key, 0) + count

    def give(self, key: str, count: int) -> None:
        """They are held no longer."""
        self.bytes -= count
        left = self._of.pop(key, 0) - count
        if left:
            self._of[key] = left

    @property
    def principal_count(self) -> int:
        """Principals that hold something."""
        return len(self._of)
