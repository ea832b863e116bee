"""Where the kernels on PyTorch cut time, so that what they work on stays in a processor's cache."""

from typing import Any, NamedTuple

# Steps of a block: so few that rounding does not add up, enough to make its edge worth while.
_MOST_STEPS, _FEWEST_STEPS = 32, 4


class Span(NamedTuple):
    """Steps from `start`: `blocks` times `size` of them."""

    start: int
    blocks: int
    size: int

    def of(self, sequence: Any, time_axis: int) -> Any:
        length = self.blocks * self.size
        if length == sequence.shape[time_axis]:
            return sequence
        return sequence.narrow(time_axis, self.start, length)

    def steps(self, part: Any, time_axis: int) -> tuple[Any, ...]:
        """The first steps of all blocks, the second ones, and so on, each `(..., blocks, ...)`."""
        return part.unflatten(time_axis, (self.blocks, self.size)).unbind(time_axis + 1)


def cut(sequence: Any, time_axis: int, elements: int) -> list[Span]:
    """Cuts a sequence into spans of about as many elements."""
    length = sequence.shape[time_axis]
    cached_steps = length
    if sequence.device.type == "cpu":  # A GPU gains by few launches instead.
        cached_steps = elements * length // max(sequence.numel(), 1)
    longest = min(max(cached_steps, _FEWEST_STEPS), _MOST_STEPS)
    size = -(-length // -(-length // longest)) if length else 1
    whole_blocks, rest = divmod(length, size)
    at_once = max(cached_steps // size, 1)
    spans = [
        Span(block * size, min(at_once, whole_blocks - block), size)
        for block in range(0, whole_blocks, at_once)
    ]
    return [*spans, Span(whole_blocks * size, 1, rest)] if rest else spans
