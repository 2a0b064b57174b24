"""Slices of time between whose borders nothing bends: windows and their time bins begin and end on borders only.

The windows are those of a grid, each in two versions where drafts are begun early: as it is, and moved back by a lead.
A knot of a time bin that lies between two ns is rounded down; an event, which lies on a whole ns, is on the same side
of both.
"""
from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from crossspec_ros.errors import CrossSpecError

_LONGEST_NS = (1 << 46) - 1     # beyond, too few events fit in a packed number


@dataclass(frozen=True)
class Slicing:
    """Borders for windows that end at ``k * stride_ns - lead``, are ``span_ns`` long and have ``bins`` time bins.

    ``borders_ns`` are those of (-1, stride - 1]; they come again every stride. A slice covers (first, last]. Raises
    ``CrossSpecError`` on what cannot be.
    """

    stride_ns: int
    span_ns: int
    bins: int
    leads_ns: tuple[int, ...] = (0,)
    borders_ns: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name, value in (('stride_ns', self.stride_ns), ('span_ns', self.span_ns), ('bins', self.bins)):
            if value < 1:
                raise CrossSpecError(f'{name} must be >= 1, got {value}')
        if not self.leads_ns or min(self.leads_ns) < 0:
            raise CrossSpecError(f'leads_ns must be >= 0 and at least one, got {self.leads_ns}')
        parts = max(self.bins - 1, 1)
        found = {(knot * self.span_ns // parts - self.span_ns - lead_ns) % self.stride_ns
                 for lead_ns in self.leads_ns for knot in range(parts + 1)}
        object.__setattr__(self, 'borders_ns', tuple(sorted(found)))
        if self.longest_ns > _LONGEST_NS:
            raise CrossSpecError(f'the longest slice must be <= {_LONGEST_NS} ns (19 h), got {self.longest_ns}: choose '
                                 'shorter windows')

    def around(self, t_ns: int) -> tuple[int, int]:
        """The slice (first, last] that an event at ``t_ns`` is in."""
        turn_ns = (t_ns - 1) // self.stride_ns * self.stride_ns
        borders = self.borders_ns
        index = bisect_right(borders, t_ns - 1 - turn_ns)
        first_ns = borders[index - 1] if index else borders[-1] - self.stride_ns
        last_ns = borders[index] if index < len(borders) else borders[0] + self.stride_ns
        return turn_ns + first_ns, turn_ns + last_ns

    def fits(self, end_ns: int) -> bool:
        """Whether a window that ends there is made of whole slices."""
        return any((end_ns + lead_ns) % self.stride_ns == 0 for lead_ns in self.leads_ns)

    def bin_of(self, first_ns: int, end_ns: int) -> int:
        """The time bin at or before every event of the slice from ``first_ns`` on, in the window that ends at
        ``end_ns``.
        """
        since_ns = first_ns + 1 - (end_ns - self.span_ns)
        return (since_ns * (self.bins - 1) - 1) // self.span_ns if self.bins > 1 else 0

    @property
    def longest_ns(self) -> int:
        """Length of the longest slice."""
        borders = self.borders_ns
        return max(later - earlier for earlier, later in zip(borders, (*borders[1:], borders[0] + self.stride_ns)))

    def count(self, length_ns: int) -> int:
        """How many slices a time of this length touches at most."""
        return (length_ns // self.stride_ns + 2) * len(self.borders_ns)
