"""Axes of figures; positions are in percent of the figure, so that text keeps its size at any width."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

_MARGIN = 0.04
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Tick:
    """A tick of an axis.

    Attributes:
        at: position in percent from the start of the axis.
        label: its value.
    """

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A linear axis.

    Attributes:
        low: value at its start.
        high: value at its end.
        step: distance between two ticks.
        is_signed: whether labels of positive values have a plus sign.
    """

    low: float
    high: float
    step: float
    is_signed: bool = False

    @classmethod
    def over(cls, values: Iterable[float], *, ticks: int = 5) -> Axis:
        """Return an axis over the given values with round ends and about `ticks` ticks."""
        low, high = _span(values)
        step = _round_step((high - low) / ticks)
        return cls(math.floor(low / step + _ROUNDING) * step, math.ceil(high / step - _ROUNDING) * step, step)

    @classmethod
    def close_to(cls, values: Iterable[float], *, is_signed: bool = False, ticks: int = 5) -> Axis:
        """Return an axis over the given values with a small margin on both sides."""
        low, high = _span(values)
        margin = (high - low) * _MARGIN
        return cls(low - margin, high + margin, _round_step((high - low) / ticks), is_signed)

    def at(self, value: float) -> float:
        """Return the position of a value in percent, clipped to the ends."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def from_top(self, value: float) -> float:
        """Return the position of a value on a vertical axis, in percent from the top."""
        return round(100 - self.at(value), 2)

    def covers(self, value: float) -> bool:
        """Return whether a value is between the ends, up to rounding errors."""
        slack = _ROUNDING * (self.high - self.low)
        return self.low - slack <= value <= self.high + slack

    @cached_property
    def ticks(self) -> tuple[Tick, ...]:
        """The ticks: multiples of the step."""
        first = math.ceil(self.low / self.step - _ROUNDING)
        last = math.floor(self.high / self.step + _ROUNDING)
        values = [number * self.step for number in range(first, last + 1)]
        return tuple(Tick(self.at(value), self._label(value)) for value in values)

    def _label(self, value: float) -> str:
        digits = max(0, -math.floor(math.log10(self.step) + _ROUNDING))
        rounded = round(value, digits) + 0.0  # turns -0.0 into 0.0
        return f"{rounded:{'+' if self.is_signed and rounded else ''},.{digits}f}"


def _span(values: Iterable[float]) -> tuple[float, float]:
    numbers = list(values) or [0.0]
    low, high = min(numbers), max(numbers)
    size = max(abs(low), abs(high))
    if high - low > _ROUNDING * size:
        return low, high
    half = max(0.5, _ROUNDING * size)
    return low - half, high + half


def _round_step(least: float) -> float:
    """Return the smallest number of the form 1, 2 or 5 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - _ROUNDING))
