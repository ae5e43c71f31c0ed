"""The features that FID and KID are defined by, from the usual file of weights."""

from pathlib import Path

import torch
from torch import Tensor

from iddpm.data.levels import to_stored_range
from iddpm.evaluation.features import Extractor
from iddpm.interop.published_weights import read_tensors
from iddpm.networks.inception import SIZE, InceptionV3
from iddpm.training.checkpoints.weights import hash_weights

AT_ONCE = 32
"""Pictures that the network sees at a time: some 6 MB of its values for each."""
RESIZE = f"bilinear to {SIZE} x {SIZE} as in TensorFlow 1, of 8 bits"
_COUNTER = "num_batches_tracked"
"""Of batch normalization, which evaluation does not use; some files leave it out."""


def inception_features(path: Path, shape: tuple[int, ...], device: torch.device) -> Extractor:
    """Open the weights of Inception v3 of December 2015 as an extractor.

    Pictures are rounded to 8 bits, as every program that computes FID takes them.

    Args:
        path: ``pt_inception-2015-12-05-6726825d.pth`` or its like: tensors by name.
        shape: (C, H, W) of the pictures; gray ones are shown in all three channels.
        device: where to compute.

    Raises:
        FileNotFoundError: no such file.
        ValueError: other weights, a program, or items that are no pictures in gray or RGB.
    """
    if len(shape) != 3 or shape[0] not in (1, 3):
        way = ": read RGBA as RGB with -s data.channels=3" if shape[0] == 4 else ""
        raise ValueError(
            "the Inception network takes pictures with 1 or 3 channels, and the items have the "
            f"shape {shape}{way}"
        )
    network = read_inception(path).to(device)

    @torch.no_grad()
    def features(x: Tensor) -> Tensor:
        levels = to_stored_range(x, 8).to(device).expand(-1, 3, -1, -1)
        return torch.cat([network(part.float()) for part in levels.split(AT_ONCE)])

    digest = hash_weights(network.state_dict())
    return Extractor("inception", digest, features, RESIZE, is_inception=True)


def read_inception(path: Path) -> InceptionV3:
    """Read the network; errors as for :func:`inception_features`."""
    try:
        read = read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{error}; {_ADVICE}") from None
    weights = {n: v for n, v in read.items() if not n.endswith(_COUNTER)}
    with torch.device("meta"):
        network = InceptionV3()
    own = network.state_dict()
    for name, value in own.items():
        if name.endswith(_COUNTER):
            weights[name] = torch.tensor(0)
        _check(path, name, weights.get(name), tuple(value.shape))
    more = sorted(weights.keys() - own.keys())
    if more:
        raise ValueError(f"{path} holds {more[0]}, which {_WANTED} does not")
    weights = {n: v if n.endswith(_COUNTER) else v.float() for n, v in weights.items()}
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False).eval()


_WANTED = "the Inception of FID (pt_inception-2015-12-05-6726825d.pth)"
_ADVICE = "convert other networks with torch.onnx.export and give the .onnx file"


def _check(path: Path, name: str, value: Tensor | None, shape: tuple[int, ...]) -> None:
    if value is None:
        raise ValueError(f"{path} does not hold {_WANTED}: {name} is missing; {_ADVICE}")
    if tuple(value.shape) != shape:
        raise ValueError(
            f"{path} does not hold {_WANTED}: its {name} has the shape {tuple(value.shape)}, not "
            f"{shape}"
        )
    if not bool(value.isfinite().all()):
        raise ValueError(f"{path} is damaged: its {name} holds values that are not finite")
