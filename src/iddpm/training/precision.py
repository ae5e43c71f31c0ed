"""Mixed precision as a context: the training step has one branch for all of them."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

PrecisionName = Literal["auto", "float32", "bf16", "fp16"]
_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; ``auto`` takes a GPU where there is one.

    Of the processes that torchrun starts on a machine each has its own: ``auto`` and ``cuda`` are
    the GPU of the process's number there. CUDA_VISIBLE_DEVICES is respected, never written.

    Raises:
        ValueError: PyTorch does not know the device or cannot reach it, or there are more
            processes than GPUs.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return _own_gpu(os.environ.get("LOCAL_RANK"))
    if name == "auto":
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"device {name!r} cannot be used ({reason}); use auto, cpu, cuda or cuda:1"
        ) from None
    return device


def _own_gpu(number: str | None) -> torch.device:
    if number is None:
        return torch.device("cuda")
    count = torch.cuda.device_count()
    if int(number) >= count:
        raise ValueError(
            f"process {number} of this machine, counted from 0, has no GPU of its own: there "
            f"{'is 1' if count == 1 else f'are {count}'}, so use --nproc-per-node {count}, or "
            "device cpu"
        )
    # What takes the current device, such as pinned memory, should not settle on the first one.
    torch.cuda.set_device(int(number))
    return torch.device("cuda", int(number))


def has_fast_bfloat16(device: torch.device) -> bool:
    """Say whether bfloat16 is sure to be computed faster than float32, without measuring it.

    On CPUs that takes matrix units (AMX): with AVX512-BF16 alone it depends on the processor
    (``python benchmarks/convolution.py``), and training measures it.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # A private name, since there is no public one; absent, nothing is claimed.
        return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
    return False


def computes_bfloat16() -> bool:
    """Say whether the CPU has instructions for bfloat16, fast or not."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # private; there are no others
    return any(bool(getattr(torch.cpu, name, bool)()) for name in names)


class Precision:
    """How the network computes: in float32, or with bfloat16 or float16 where that is safe.

    Weights, optimizer and losses stay float32; autocast picks the operations. float16 scales the
    loss so that small gradients survive.

    Args:
        name: ``"auto"`` takes bfloat16 where the device is sure to be fast at it, else float32.
        device: where the network runs.
    """

    def __init__(self, name: PrecisionName, device: torch.device) -> None:
        if name == "auto":
            name = "bf16" if has_fast_bfloat16(device) else "float32"
        self.name = name
        self.dtype = _DTYPES[name]
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context for the forward pass."""
        if self.name == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)
