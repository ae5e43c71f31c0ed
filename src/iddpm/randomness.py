"""Every random number as a function of (seed, purpose, step, index).

A resumed run, another batch size or another number of processes draws the same numbers, because
nothing is drawn from a generator that remembers what was drawn before.
"""

import hashlib

import numpy as np

MASK64 = (1 << 64) - 1


def stream(seed: int, purpose: str, *, step: int = 0, index: int = 0) -> np.random.Generator:
    """Return a fresh generator that depends on these four values and on nothing else.

    The values are mixed by a hash into the 128-bit key of a Philox generator, so that neighbouring
    seeds, steps and indices share nothing. (A torch CPU generator keeps 32 bits of its seed: seeds
    1 and 1 + 2**32 would draw alike, and a long run would meet the same seed twice.)

    Args:
        seed: the user's seed, any integer.
        purpose: what the numbers are for, such as ``"noise"`` or ``"timestep"``.
        step: the training or sampling step.
        index: the global index of the sample.
    """
    key = np.frombuffer(_digest(seed, purpose, step, index), dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def torch_seed(seed: int, purpose: str, *, step: int = 0, index: int = 0) -> int:
    """Return a 63-bit seed for ``torch.manual_seed``, where only the global generator will do."""
    return int.from_bytes(_digest(seed, purpose, step, index)[:8], "little") & (MASK64 >> 1)


def _digest(seed: int, purpose: str, step: int, index: int) -> bytes:
    text = f"{seed}/{purpose}/{step}/{index}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
