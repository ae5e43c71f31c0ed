"""What is compared instead of pixels: features of a network, or the main directions of the data.

An extractor is a function of data [N, C, *spatial] in [-1, 1] to features [N, d] together with what
identifies it. A network that a user brings is an ONNX graph, a list of known operators and numbers,
or weights alone. TorchScript is not read, since PyTorch says to treat such files as programs.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

COMPONENTS = 64
"""Directions of the raw-pixel PCA, fewer where the data has fewer."""
ITEMS_TO_DIRECTION = 4
"""Items for each direction, at the least, from which what lies outside of them is measured."""
PCA_ITEMS = 2048
"""Items that the directions are fitted to."""


@dataclass(frozen=True, eq=False)
class Extractor:
    """A function of data to features and everything that identifies it.

    Attributes:
        name: for people, such as ``"classifier"``.
        hash: SHA-256 of what computes, in hexadecimal.
        resize: how data gets the size the function takes.
        function: data [N, C, *spatial] in [-1, 1] to features [N, d].
        is_inception: whether the user declared these the features that FID is defined by.
        whiten: whether they are compared in units of their spread over real data.
        beside: how many of the last features only the measures of neighbors take (precision,
            recall, density, coverage), and not the distances.
        fitted: whether the function was fitted to the data: it sees its directions alone.

    >>> extractor = Extractor("channel means", "0" * 64, lambda x: x.flatten(2).mean(dim=2))
    >>> extractor(torch.zeros(4, 3, 8, 8)).shape
    torch.Size([4, 3])
    >>> extractor.distance_name
    'Frechet distance (channel means features)'
    """

    name: str
    hash: str
    function: Callable[[Tensor], Tensor]
    resize: str = "none"
    is_inception: bool = False
    whiten: bool = False
    beside: int = 0
    fitted: bool = False

    @property
    def distance_name(self) -> str:
        """What the Frechet distance over these features is called."""
        whitened = "whitened " if self.whiten else ""
        name = f"Frechet distance ({whitened}{self.name} features)"
        return "FID" if self.is_inception else name

    @property
    def kernel_name(self) -> str:
        """What the kernel distance over these features is called."""
        return "KID" if self.is_inception else "kernel distance"

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features of data, [N, d] float32 on the CPU.

        Raises:
            ValueError: the function gives something else than finite [N, d].
        """
        features = self.function(x)
        if features.dim() != 2 or len(features) != len(x):
            raise ValueError(
                f"extractor {self.name} gives {list(features.shape)} for {len(x)} items, and "
                f"features are [{len(x)}, d]"
            )
        features = features.detach().float().cpu()
        if not bool(features.isfinite().all()):
            raise ValueError(f"extractor {self.name} gives features that are not finite")
        return features

    def of(self, batches: Iterable[Tensor]) -> Tensor:
        """Return the features of all batches, [N, d]."""
        return torch.cat([self(batch) for batch in batches])


def pixel_pca(items: Tensor, components: int = COMPONENTS) -> Extractor:
    """Fit the main directions of raw data: the floor, for when no network knows the data.

    Features are coordinates along the directions of largest variance, which see the coarse layout
    and no detail, and for the measures of neighbors the norm of all that lies outside of them. That
    norm is left out where nothing lies outside, and where there are fewer than ITEMS_TO_DIRECTION
    items to a direction: it is then too small for the items that the directions were fitted to.

    Args:
        items: training data [N, C, *spatial] in [-1, 1]; two or more.
        components: how many directions.

    >>> items = torch.randn(32, 1, 8, 8)
    >>> pixel_pca(items, components=4)(items).shape
    torch.Size([32, 5])
    """
    x = items.flatten(1).double()
    if len(x) < 2:
        raise ValueError(f"a PCA needs at least two items, not {len(x)}")
    mean = x.mean(dim=0)
    _, _, directions = torch.linalg.svd(x - mean, full_matrices=False)
    directions = directions[: min(components, len(x) - 1)].T.contiguous()
    # The items are hashed, since the directions' last bits depend on the machine.
    data = hashlib.sha256(items.float().cpu().contiguous().numpy().tobytes())
    count = directions.shape[1]
    outside = count < x.shape[1] and len(x) >= ITEMS_TO_DIRECTION * count
    data.update(f"pca {count}{' and residual' if outside else ''}".encode())
    projection = _Projection(mean, directions, tuple(items.shape[1:]), outside)
    return Extractor("pixel PCA", data.hexdigest(), projection, beside=int(outside), fitted=True)


@dataclass(frozen=True, eq=False)
class _Projection:
    """Coordinates of data along directions and, if wanted, the norm of the rest.

    A value, so that one process can hand it to others.
    """

    mean: Tensor
    directions: Tensor
    shape: tuple[int, ...]
    outside: bool

    def __call__(self, batch: Tensor) -> Tensor:
        if tuple(batch.shape[1:]) != self.shape:
            raise ValueError(
                f"the PCA was fitted to items of shape {self.shape} and was given "
                f"{tuple(batch.shape[1:])}"
            )
        x = batch.flatten(1).double().cpu() - self.mean
        along = x @ self.directions
        if not self.outside:
            return along
        rest = (x - along @ self.directions.T).norm(dim=1, keepdim=True)
        return torch.cat([along, rest], dim=1)


def onnx_file(path: Path) -> Extractor:
    """Open a network file of the user.

    Beside FILE.onnx there may be FILE.json with ``name``; ``range``, the two numbers that -1 and 1
    become ([-1, 1] by default); ``resize``: ``"bilinear"`` brings pictures to the size of the graph
    (by default another size is refused); and ``standard_inception: true``, the user's word that
    these are the features FID is defined by. One channel is repeated where the graph takes three.

    Raises:
        FileNotFoundError: no such file.
        ValueError: onnxruntime is not installed, or a file that is not what it should be.

    >>> import onnx.parser, tempfile
    >>> code = 'agraph (float[N, 1, 8] x) => (float[N, 8] y) {y = Flatten(x)}'
    >>> model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 13]> {code}')
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     onnx.save(model, f"{directory}/features.onnx")
    ...     extractor = onnx_file(Path(directory, "features.onnx"))
    >>> extractor(torch.zeros(4, 1, 8)).shape
    torch.Size([4, 8])
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no features file {path}")
    options = _options(path.with_suffix(".json"))
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(
            f"{path} is an ONNX file, which needs onnxruntime: pip install 'iddpm[onnx]'"
        ) from None
    content = path.read_bytes()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(
            content, settings, providers=onnxruntime.get_available_providers()
        )
    except Exception as error:  # its exceptions share no base but this
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be read as an ONNX network: {reason}") from None
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) < 3:
        found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        raise ValueError(
            f"{path} must take one float input [N, C, *spatial], and takes {found or 'nothing'}"
        )
    axes = [axis if isinstance(axis, int) else None for axis in inputs[0].shape]
    low, high = options["range"]

    def _in_session(part: Tensor) -> Tensor:
        """Run a batch; one that the graph wants larger is filled up with its last item."""
        missing = (axes[0] or len(part)) - len(part)
        filled = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])
        try:
            result = session.run(None, {inputs[0].name: filled.numpy()})[0]
        except Exception as error:  # its exceptions share no base but this
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} failed on items {tuple(filled.shape)}: {reason}") from None
        if len(result) != len(filled):
            raise ValueError(
                f"{path} returned {len(result)} rows for {len(filled)} items: features are [N, d]"
            )
        return torch.from_numpy(result[: len(part)])

    def run(x: Tensor) -> Tensor:
        fitted = _fit(x.float().cpu(), axes, options["resize"], path)
        scaled = low + (fitted + 1) * ((high - low) / 2)
        parts = scaled.split(axes[0] or max(len(scaled), 1))
        features = torch.cat([_in_session(part.contiguous()) for part in parts])
        ones = features.dim() > 2 and features.shape[2:].numel() == 1
        return features.flatten(1) if ones else features  # a pool may keep its axes

    # The range changes the features as the file does; the resizing is recorded beside the hash.
    digest = hashlib.sha256(content)
    digest.update(json.dumps(options["range"]).encode() if options["range"] != [-1, 1] else b"")
    name = options["name"] or path.stem
    return Extractor(
        name, digest.hexdigest(), run, options["resize"], options["standard_inception"]
    )


def _options(path: Path) -> dict[str, Any]:
    """Read what is said beside a network file."""
    options: dict[str, Any] = {
        "name": None,
        "range": [-1, 1],
        "resize": "none",
        "standard_inception": False,
    }
    if not path.is_file():
        return options
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    unknown = sorted(set(given) - set(options)) if isinstance(given, dict) else ["no mapping"]
    if unknown:
        raise ValueError(f"{path} has {unknown[0]}, and may have {', '.join(options)}")
    options |= given
    ends = options["range"]
    if (
        not isinstance(ends, list)
        or len(ends) != 2
        or not all(isinstance(end, int | float) for end in ends)
    ):
        raise ValueError(f"{path} has range={ends!r}: give two numbers, such as [0, 255]")
    if options["resize"] not in ("none", "bilinear"):
        raise ValueError(f"{path} has resize={options['resize']!r}: use none or bilinear")
    return options


def _fit(x: Tensor, axes: list[int | None], resize: str, path: Path) -> Tensor:
    """Return data with the channels and the size that a graph takes, or say why it cannot be."""
    wanted = axes[1:]
    if x.shape[1] == 1 and wanted[0] == 3:
        x = x.expand(-1, 3, *x.shape[2:])
    given = list(x.shape[1:])
    if len(given) != len(wanted) or wanted[0] not in (None, given[0]):
        raise ValueError(f"{path} takes items {_shown(wanted)} and was given {_shown(given)}")
    size = [have if want is None else want for have, want in zip(given, wanted, strict=True)][1:]
    if size != given[1:]:
        if resize != "bilinear" or len(size) != 2:
            raise ValueError(
                f"{path} takes items {_shown(wanted)} and was given {_shown(given)}: use a "
                'network for this size, or write {"resize": "bilinear"} to '
                f"{path.with_suffix('.json')} to resize pictures"
            )
        x = torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True)
    return x


def _shown(shape: list[int] | list[int | None]) -> str:
    return " x ".join("any" if axis is None else str(axis) for axis in shape)
