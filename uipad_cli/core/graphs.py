"""A network on CUDA recorded as one graph, so that no time goes into launching its hundreds of kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

WARM_UP = 3  # calls before the recording, in which libraries choose their kernels and compilers compile
OFTEN = 3  # a further shape is recorded when it comes for so many times

Made = TypeVar("Made")


class Recorded:
    """Records `network` for the shape of images that it is called with first, and for others that come often."""

    def __init__(self, network: Callable[..., tuple[Tensor, ...]]) -> None:
        self.network = network
        self.records: dict[object, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], tuple[Tensor, ...]]] = {}
        self.calls: Counter[object] = Counter()

    @torch.no_grad()
    def __call__(self, rgb: Tensor, geometry: Tensor, known: object = None) -> tuple[Tensor, ...]:
        """As the network; what it returns may be overwritten by the next call."""
        key = (rgb.shape, geometry.shape, known)
        self.calls[key] += 1
        if key not in self.records:
            if self.records and self.calls[key] < OFTEN:  # the last batch of a folder, say
                return self.network(rgb, geometry, known)
            self.records[key] = self._recorded((rgb.clone(), geometry.clone()), known)
        graph, inputs, outputs = self.records[key]
        replay(graph, inputs, (rgb, geometry))
        return outputs

    def _recorded(
        self, inputs: tuple[Tensor, ...], known: object
    ) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], tuple[Tensor, ...]]:
        def work() -> tuple[Tensor, ...]:
            return self.network(*inputs, known)

        graph, outputs = record(work, work, next(iter(self.records.values()), (None,))[0], inputs[0].device)
        return graph, inputs, outputs


def record(
    warm_up: Callable[[], object], work: Callable[[], Made], shared: torch.cuda.CUDAGraph | None, device: torch.device
) -> tuple[torch.cuda.CUDAGraph, Made]:
    """Run `warm_up` a few times, then record `work` → the graph and what it fills at every replay.

    shared: a graph whose memory it may use, for they are never replayed at once.
    """
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                warm_up()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=None if shared is None else shared.pool(), stream=stream):
            made = work()
    return graph, made


def replay(graph: torch.cuda.CUDAGraph, kept: tuple[Tensor, ...], given: tuple[Tensor, ...]) -> None:
    """Fill the inputs that a graph was recorded with, and run it."""
    with torch.cuda.device(kept[0].device):
        for mine, one in zip(kept, given, strict=True):
            mine.copy_(one)
        graph.replay()


Drawn = tuple[tuple[Tensor, ...], object]
Loss = tuple[Tensor, dict[str, Tensor]]


class RecordedStep:
    """Loss and gradients of a training step, recorded once for each variant of it; a `LossOfStep` for CUDA.

    draw(indices, generator) → inputs of always the same shapes, and a variant; loss(inputs, variant) → loss, values.
    Every variant uses the same parameters.
    """

    def __init__(
        self,
        network: nn.Module,
        draw: Callable[[Tensor, torch.Generator], Drawn],
        loss: Callable[[Any, Any], Loss],
    ) -> None:
        self.network, self.draw, self.loss = network, draw, loss
        self.records: dict[object, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Loss]] = {}

    def __call__(self, indices: Tensor, generator: torch.Generator) -> Loss:
        """The loss, without a gradient: the gradients are where an optimizer looks for them."""
        inputs, variant = self.draw(indices, generator)
        key = (variant, *(one.shape for one in inputs))
        if key not in self.records:
            self.records[key] = self._recorded(inputs, variant)
        graph, kept, (loss, values) = self.records[key]
        replay(graph, kept, inputs)
        return loss.detach(), values

    def _recorded(
        self, inputs: tuple[Tensor, ...], variant: object
    ) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Loss]:
        kept = tuple(one.clone() for one in inputs)

        def learn() -> Loss:
            found = self.loss(kept, variant)
            found[0].backward()  # type: ignore[no-untyped-call]
            return found

        def work() -> Loss:
            torch._foreach_zero_([one.grad for one in self.network.parameters() if one.grad is not None])
            return learn()

        graph, found = record(learn, work, next(iter(self.records.values()), (None,))[0], inputs[0].device)
        return graph, kept, found
