"""Every random number as a function of (seed, purpose, step, index).

A resumed run, another batch size or another number of processes draws the same numbers, because
no generator has a state that is kept between draws.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MASK64 = (1 << 64) - 1


def stream(seed: int, purpose: str, *, step: int = 0, index: int = 0) -> np.random.Generator:
    """Return a fresh generator that depends on these four values and on nothing else.

    A hash of the values is the 128-bit key of a Philox generator, so that neighboring seeds, steps
    and indices are independent. (A CPU generator of torch uses 32 bits of its seed: seeds 1 and
    1 + 2**32 would draw the same, and a long run would use a seed twice.)

    Args:
        seed: the user's seed, any integer.
        purpose: the purpose of the numbers, such as ``"noise"`` or ``"timestep"``.
        step: the training or sampling step.
        index: the global index of the sample.
    """
    key = np.frombuffer(_digest(seed, purpose, step, index), dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def normal(
    seed: int, purpose: str, shape: Sequence[int], *, step: int = 0, start: int = 0
) -> NDArray[np.float32]:
    """Return standard normal float32 numbers [N, ...], item k drawn from its own stream.

    Args:
        seed, purpose, step: as in :func:`stream`.
        shape: [N, ...] of the result.
        start: global index of the first item; an item draws the same numbers in every batch.
    """
    batch = np.empty(tuple(shape), dtype=np.float32)
    for k in range(len(batch)):
        generator = stream(seed, purpose, step=step, index=start + k)
        generator.standard_normal(dtype=np.float32, out=batch[k])
    return batch


def torch_seed(seed: int, purpose: str, *, step: int = 0, index: int = 0) -> int:
    """Return a 63-bit seed for ``torch.manual_seed``, for code with the global generator."""
    return int.from_bytes(_digest(seed, purpose, step, index)[:8], "little") & (MASK64 >> 1)


def _digest(seed: int, purpose: str, step: int, index: int) -> bytes:
    text = f"{seed}/{purpose}/{step}/{index}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
