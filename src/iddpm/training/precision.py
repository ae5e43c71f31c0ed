"""Mixed precision as a context, the same code for all precisions."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

PrecisionName = Literal["auto", "float32", "bf16", "fp16"]
_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """Return a device by name; ``auto`` is a GPU if there is one.

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
    # Code that uses the current device, such as pinned memory, should not use the first one.
    torch.cuda.set_device(int(number))
    return torch.device("cuda", int(number))


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 is certainly faster than float32, without measuring it.

    On CPUs that takes matrix units (AMX): with AVX512-BF16 alone it depends on the processor
    (``python benchmarks/convolution.py``), and training measures it.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # A private name, since there is no public one; if it is missing, the answer is no.
        return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
    return False


def computes_bfloat16() -> bool:
    """Return whether the CPU has instructions for bfloat16, fast or not."""
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # private; there are no others
    return any(bool(getattr(torch.cpu, name, bool)()) for name in names)


class Precision:
    """The precision of the network: float32, or bfloat16 or float16 where that is safe.

    Weights, optimizer and losses stay float32; autocast picks the operations. float16 scales the
    loss so that small gradients survive.

    Args:
        name: ``"auto"`` is bfloat16 if the device is certainly faster with it, otherwise float32.
        device: of the network.

    >>> precision = Precision("bf16", torch.device("cpu"))
    >>> with precision.autocast():
    ...     torch.nn.functional.linear(torch.ones(1, 2), torch.ones(1, 2)).dtype
    torch.bfloat16
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
