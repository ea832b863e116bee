"""Where the kernels on PyTorch cut time, so that what they work on stays in a processor's cache."""

import functools
from typing import Any, NamedTuple

# Steps of a block: so few that rounding does not add up, enough to make its edge worth while.
_MOST_STEPS, _FEWEST_STEPS = 32, 4
# Of a span, by measurement.
_ELEMENTS = 2**20


class Span(NamedTuple):
    """Steps from `start`: `blocks` times `size` of them."""

    start: int
    blocks: int
    size: int

    @property
    def length(self) -> int:
        return self.blocks * self.size

    def of(self, sequence: Any, time_axis: int) -> Any:
        return self._from(self.start, sequence, time_axis)

    def held_in(self, memory: Any, time_axis: int) -> Any:
        """As much of memory for the longest span, which all use in turn, as this one needs."""
        return self._from(0, memory, time_axis)

    def _from(self, start: int, tensor: Any, time_axis: int) -> Any:
        if self.length == tensor.shape[time_axis]:
            return tensor
        return tensor.narrow(time_axis, start, self.length)

    def steps(self, part: Any, time_axis: int) -> tuple[Any, ...]:
        """The first steps of all blocks, the second ones, and so on, each `(..., blocks, ...)`."""
        return part.unflatten(time_axis, (self.blocks, self.size)).unbind(time_axis + 1)


def on_cpu(tensor: Any) -> bool:
    return tensor.device.type == "cpu"


def cut(sequence: Any, time_axis: int) -> tuple[Span, ...]:
    """Cuts a sequence into spans."""
    length = sequence.shape[time_axis]
    cached_steps = length
    if on_cpu(sequence):  # A GPU gains by few launches instead.
        cached_steps = _ELEMENTS * length // max(sequence.numel(), 1)
    return _cut(length, cached_steps)


@functools.lru_cache
def _cut(length: int, cached_steps: int) -> tuple[Span, ...]:
    longest = min(max(cached_steps, _FEWEST_STEPS), _MOST_STEPS)
    size = -(-length // -(-length // longest)) if length else 1
    whole_blocks, rest = divmod(length, size)
    at_once = max(cached_steps // size, 1)
    spans = tuple(
        Span(block * size, min(at_once, whole_blocks - block), size)
        for block in range(0, whole_blocks, at_once)
    )
    return (*spans, Span(whole_blocks * size, 1, rest)) if rest else spans
