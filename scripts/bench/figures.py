"""Figures of repetitions: median and spread, percentiles, and whether a bar is met."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from scripts.bench.arena import Arena

__all__ = [
    "Bar",
    "Figure",
    "Line",
    "Measured",
    "Panel",
    "Row",
    "Sample",
    "Size",
    "Turn",
    "at_least",
    "at_most",
    "percentile",
]

Sample = Mapping[str, float]
"""What one repetition of a row found, by the key of a line."""

Kind = Literal["ours", "limit", "baseline", "ratio", "beside"]


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must reach."""

    limit: float
    upward: bool

    def met(self, value: float) -> bool:
        """Whether the value is on the right side; the limit itself is."""
        return value >= self.limit if self.upward else value <= self.limit


def at_least(limit: float) -> Bar:
    """A bar to be reached or passed."""
    return Bar(limit, upward=True)


def at_most(limit: float) -> Bar:
    """A bar not to be passed."""
    return Bar(limit, upward=False)


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of a row: its key in a sample, what it is called, its unit, whose it is, and its bar."""

    key: str
    label: str
    unit: str
    kind: Kind = "beside"
    bar: Bar | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of the drawing: lines of one row that share a unit."""

    title: str
    unit: str
    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is: `pick(quick, full)`."""

    quick: bool

    def pick(self, quick: int, full: int) -> int:
        """The size for this run."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Turn:
    """One repetition: its size, its number from 0, the seed of everything random in it, and where to say things."""

    size: Size
    number: int
    seed: int
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table and its part of the drawing. `minutes` is how long a repetition takes, quick and full."""

    key: str
    title: str
    lines: Sequence[Line]
    measure: "Callable[[Arena, Turn], Sample]"
    minutes: tuple[float, float]
    panels: Sequence[Panel] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A line with what its repetitions found."""

    line: Line
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest."""
        return min(self.values), max(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the bar; None where there is none."""
        return self.line.bar.met(self.median) if self.line.bar else None


@dataclass(frozen=True, slots=True)
class Measured:
    """A row with what was found, or with the sentence that says why it failed."""

    row: Row
    samples: Sequence[Sample]
    failure: str | None = None

    def figures(self) -> list[Figure]:
        """The lines for which there is a value, in order."""
        made = []
        for line in self.row.lines:
            values = [sample[line.key] for sample in self.samples if line.key in sample]
            if values:
                made.append(Figure(line, values))
        return made

    @property
    def met(self) -> bool:
        """Whether the row came to an end and every bar in it is met."""
        return self.failure is None and all(figure.met is not False for figure in self.figures())


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed (nearest rank); NaN without values."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
