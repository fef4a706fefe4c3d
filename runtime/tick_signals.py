"""All signals of one tick in one reader: the vehicle's and controller's, and those that the tick itself makes.

The signal stage gives what came from outside; prediction scalars (`heads.*`), the comparison (`shadow.*`, `diff.*`)
and camera health (`health.*`) are laid over it. An overlay value is one sample at the tick's instant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.messages import SignalReader, SignalSample, SignalValue


class TickSignals:
    """A `SignalReader` of outside signals with this tick's own values over them."""

    def __init__(self, outside: SignalReader, own: Mapping[str, SignalValue], time_ns: int) -> None:
        self._outside = outside
        self._own = own
        self._time_ns = time_ns

    def value(self, name: str) -> SignalValue | None:
        if name in self._own:
            return self._own[name]
        return self._outside.value(name)

    def samples(self, name: str) -> Sequence[SignalSample]:
        if name in self._own:
            return (SignalSample(name, self._time_ns, self._own[name]),)
        return self._outside.samples(name)

    def names(self) -> Sequence[str]:
        return sorted({*self._outside.names(), *self._own})
