"""Files that are nearly right: bytes flipped, cut out and stuffed in, most of them near the head."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

HEAD = 420  # bytes


def mutations(
    data: bytes, count: int, seed: int = 0, letters: bytes = b"0123456789 \n.-xyzFUI#\xff\x7f"
) -> Iterable[bytes]:
    """That many files made of one; a tenth of them is cut short, too."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        mutated = bytearray(data)
        reach = len(data) if generator.random() < 0.3 else min(len(data), HEAD)
        for place in generator.integers(0, reach, generator.integers(1, 5)):
            match generator.integers(4):
                case 0:
                    mutated[place % len(mutated)] = generator.integers(256)
                case 1:
                    mutated[place % len(mutated)] = generator.choice(np.frombuffer(letters, np.uint8))
                case 2:
                    del mutated[place : place + int(generator.integers(1, 20))]
                case _:
                    mutated[place:place] = bytes(generator.choice(mutated, 3))
            if not mutated:
                break
        yield bytes(mutated if generator.random() < 0.9 else mutated[: generator.integers(len(mutated) + 1)])
