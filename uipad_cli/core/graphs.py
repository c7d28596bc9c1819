"""A network on CUDA recorded as one graph, so that no time goes into launching its hundreds of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

WARM_UP = 3  # calls before the recording, in which libraries choose their kernels and compilers compile


class Recorded:
    """Records `network` for the shape it is first called with and replays that; other shapes run as ever."""

    def __init__(self, network: Callable[..., tuple[Tensor, ...]]) -> None:
        self.network = network
        self.graph: torch.cuda.CUDAGraph | None = None
        self.key: object = None
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()

    @torch.no_grad()
    def __call__(self, rgb: Tensor, geometry: Tensor, known: object = None) -> tuple[Tensor, ...]:
        """As the network; what it returns is overwritten by the next call."""
        key = (rgb.shape, geometry.shape, known)
        if self.graph is None:
            self.graph, self.key = self._recorded(rgb, geometry, known), key
        if key != self.key:
            return self.network(rgb, geometry, known)
        for kept, given in zip(self.inputs, (rgb, geometry), strict=True):
            kept.copy_(given)
        self.graph.replay()
        return self.outputs

    def _recorded(self, rgb: Tensor, geometry: Tensor, known: object) -> torch.cuda.CUDAGraph:
        self.inputs = rgb.clone(), geometry.clone()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.network(*self.inputs, known)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.outputs = self.network(*self.inputs, known)
        return graph


Drawn = tuple[tuple[Tensor, ...], object]
Loss = tuple[Tensor, dict[str, Tensor]]


class RecordedStep:
    """Loss and gradients of a training step, recorded once for each variant of it; a `LossOfStep` for CUDA.

    draw(indices, generator) → inputs of always the same shapes, and a variant; loss(inputs, variant) → loss, values.
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
        for mine, given in zip(kept, inputs, strict=True):
            mine.copy_(given)
        graph.replay()
        return loss.detach(), values

    def _recorded(
        self, inputs: tuple[Tensor, ...], variant: object
    ) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Loss]:
        kept = tuple(one.clone() for one in inputs)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.loss(kept, variant)[0].backward()  # type: ignore[no-untyped-call]
        torch.cuda.current_stream().wait_stream(stream)
        gradients = [one.grad for one in self.network.parameters() if one.grad is not None]
        graph = torch.cuda.CUDAGraph()
        others = next(iter(self.records.values()), None)
        with torch.cuda.graph(graph, pool=None if others is None else others[0].pool()):
            torch._foreach_zero_(gradients)
            found = self.loss(kept, variant)
            found[0].backward()  # type: ignore[no-untyped-call]
        return graph, kept, found
