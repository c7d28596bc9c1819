"""A network on CUDA recorded as one graph, so that no time goes into launching its hundreds of kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

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
