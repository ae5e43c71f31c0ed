"""Errors of memory that ran out."""

import torch

from iddpm.runtime.errors import OutOfMemory

WORDS = ("out of memory", "can't allocate memory")
"""Messages of devices without an error class: MPS and the CPU."""


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error of PyTorch means that the device ran out of memory."""
    kind = isinstance(error, torch.OutOfMemoryError)
    return kind or any(words in str(error) for words in WORDS)


def out_of_memory(items: int) -> OutOfMemory:
    """Return the error for the user; ``items`` is the number of items in a backward pass."""
    if items == 1:
        advice = "start a new run with a smaller network or with model.use_checkpoint=true"
    else:
        advice = (
            f"continue with --resume and -s training.microbatch={items // 2}, or on one "
            "process with -s training.on_out_of_memory=halve, which finds the size "
            "automatically"
        )
    return OutOfMemory(f"the device ran out of memory with {items} items at a time: {advice}")
