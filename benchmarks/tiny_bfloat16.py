"""Compare PyTorch's bfloat16 convolutions of tiny inputs on this CPU with float32.

python benchmarks/tiny_bfloat16.py

Prints the relative errors of output, input gradient and weight gradient of PyTorch's own modules:
the largest of several tries, since what is wrong is memory that was never written. Each case has a
process of its own, because some end it. ``iddpm.networks.convolution`` computes such inputs in
float32 instead.
"""

import argparse
import subprocess
import sys

CASES = (
    ("Conv3d", (3, 3, 3), (1, 1, 1), (2, 9, 2)),
    ("Conv3d", (3, 3, 3), (1, 1, 1), (2, 8, 8)),
    ("Conv3d", (3, 3, 3), (1, 2, 2), (1, 1, 1)),
    ("Conv3d", (3, 3, 3), (1, 2, 2), (4, 1, 8)),
    ("Conv3d", (3, 3, 3), (1, 2, 2), (2, 8, 8)),
    ("Conv3d", (3, 3, 3), (1, 2, 2), (4, 8, 8)),
    ("Conv3d", (3, 3, 3), (1, 2, 2), (8, 9, 2)),
    ("Conv3d", (3, 3, 3), (2, 2, 2), (8, 9, 2)),
    ("ConvTranspose3d", (3, 4, 4), (1, 2, 2), (4, 8, 1)),
    ("ConvTranspose3d", (3, 4, 4), (1, 2, 2), (4, 1, 8)),
    ("ConvTranspose3d", (3, 4, 4), (1, 2, 2), (2, 8, 8)),
    ("ConvTranspose3d", (3, 4, 4), (1, 2, 2), (4, 8, 8)),
    ("Conv1d", (3,), (2,), (1,)),
    ("Conv1d", (3,), (2,), (8,)),
    ("Conv2d", (3, 3), (2, 2), (2, 1)),
    ("Conv2d", (3, 3), (2, 2), (9, 2)),
    ("Conv2d", (3, 3), (2, 2), (8, 8)),
)
PROGRAM = """
import sys, torch
kind, kernel, stride, size = eval(sys.argv[1])
worst = torch.zeros(3)
for seed in range(int(sys.argv[2])):
    torch.manual_seed(seed)
    module = getattr(torch.nn, kind)(32, 32, kernel, stride, 1, bias=False)
    x = torch.randn(2, 32, *size)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        a = x.detach().to(dtype).clone().requires_grad_()
        layer = module.to(dtype)
        y = layer(a)
        torch.manual_seed(seed + 1)
        layer.weight.grad = None
        y.backward(torch.randn(y.shape).to(dtype))
        results.append([v.detach().float() for v in (y, a.grad, layer.weight.grad)])
    errors = torch.stack([(b - a).norm() / a.norm() for a, b in zip(*results)])
    worst = torch.maximum(worst, errors.nan_to_num(torch.inf, torch.inf))
print(" ".join(f"{float(error):>9.3g}" for error in worst))
"""


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one case")
    parser.add_argument("--tries", type=int, default=10, help="inputs for each case")
    arguments = parser.parse_args()
    timeout = arguments.timeout
    print(f"{'layer':<16} {'stride':<10} {'input':<10}    output   d input  d weight")
    for case in CASES:
        kind, _, stride, size = case
        command = [sys.executable, "-c", PROGRAM, repr(case), str(arguments.tries)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, check=False
            )
            outcome = done.stdout.rstrip() if done.returncode == 0 else f"exit {done.returncode}"
        except subprocess.TimeoutExpired:
            outcome = f"no answer in {timeout:g} s"
        shapes = [" x ".join(map(str, values)) for values in (stride, size)]
        print(f"{kind:<16} {shapes[0]:<10} {shapes[1]:<10} {outcome}", flush=True)


if __name__ == "__main__":
    main()
