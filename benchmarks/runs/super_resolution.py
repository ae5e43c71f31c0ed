"""Super-resolution of digits, of photographs and of a brain scan, beside interpolation.

make run-digits-sr     # 14 to 28 pixels along each axis
make run-photos-sr     # 32 to 64
make run-volumes-sr    # 16 to 32 voxels
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from benchmarks.runs import digits, photos, volumes
from benchmarks.runs.common import FAST, PICTURES, bound, finish, judge, prepared, table, trained
from benchmarks.runs.picture import beside
from iddpm.tasks.evaluate import Evaluation, evaluate
from iddpm.tasks.pairs import held_out_pairs, interpolated

DIGITS, VOLUMES = "examples/digits_super_resolution.yaml", "examples/mri_super_resolution.yaml"
PHOTOS = "examples/photo_super_resolution.yaml"


def run(
    data: Path | str,
    out: Path,
    picture: Path,
    *,
    example: str,
    features: Sequence[str],
    settings: Sequence[str] = (),
    n: int,
    steps: int = 20,
    looks: int = 8,
    measured: int | None = None,
    shown: int = 10,
    average: int = 8,
) -> None:
    """Train, measure and draw.

    Args:
        data: high-resolution data.
        out: the run directory.
        picture: the figure to write.
        example: the settings.
        features: as for ``iddpm evaluate``, one or more.
        settings: of training, in addition to the example's.
        n: samples to measure, of as many held-out items.
        steps: network evaluations for each.
        looks: network evaluations for each item's likelihood.
        measured: held-out items whose likelihood is measured; by default all.
        shown: items in the picture.
        average: samples of each item, for their mean.
    """
    started = time.monotonic()
    model = trained(data, out, example, settings)
    likelihood = bound(model, samples_per_item=looks, max_items=measured)
    sampling = {**FAST, "steps": steps}
    found = [
        evaluate(
            model,
            average=average,
            n=n,
            features=name,
            sampling=sampling,
            out=out / "evaluation" / str(k),
        )
        for k, name in enumerate(features)
    ]
    pairs = held_out_pairs(model, shown)
    drawn = model.sample(shown, given=pairs.given, steps=steps)
    ways = interpolated(model.config, pairs.low_res)
    mosaics = {
        "low resolution": repeated(pairs.low_res, model.shape),
        "bicubic": ways["bicubic"],
        "drawn by the model": drawn,
        "truth": pairs.truth(),
    }
    flat = len(model.shape) == 3
    columns, scale = (5, 2) if flat else (1, 2)
    print(f"wrote {beside(mosaics, picture, columns=columns, scale=scale)}")
    likelihood_line = f"Likelihood conditioned on the low resolution: {likelihood} bits/dim.\n"
    finish([likelihood_line, spread_line(found[0]), table(rows(found))], out, started)


def rows(found: Sequence[Evaluation]) -> list[list[str]]:
    """Return the PSNR of each way and its distances for each kind of features."""
    names = [each.report["frechet_name"].replace("Frechet distance", "Frechet") for each in found]
    first = found[0].report["super_resolution"]["ways"]
    head = ["", "PSNR", "SSIM", "perceptual", "PSNR after downsampling again", *names]
    lines = [head]
    for way, measured in first.items():
        distances = [each.report["super_resolution"]["ways"][way] for each in found]
        lines.append(
            [
                "the model" if way == "samples" else way,
                f"{measured['psnr']['value']:.2f} +- {measured['psnr']['error']:.2f} dB",
                f"{measured['ssim']['value']:.4f}",
                f"{measured['perceptual']['value']:.4g}",
                f"{measured['low_res_psnr']['value']:.1f} dB",
                *(f"{each['frechet_distance']['value']:.3g}" for each in distances),
            ]
        )
    marks = [each.held_out for each in found]
    count = marks[0].count if marks[0] is not None else 0
    distances = [f"{mark.frechet.value:.3g}" if mark is not None else "" for mark in marks]
    return [*lines, [f"all {count} held-out items", "", "", "", "", *distances]]


def spread_line(found: Evaluation) -> str:
    """Return how the error of the mean compares with what the spread of the samples says."""
    spread = found.report["super_resolution"]["spread"]
    n, ratio = spread["samples"], spread["ratio"]
    return (
        f"Squared error of the mean of {n}: {ratio['value']:.3f} +- {ratio['error']:.3f} times "
        f"MMSE (1 + 1/{n}) by the samples' variance.\n"
    )


def repeated(low_res: Tensor, shape: Sequence[int]) -> Tensor:
    """Return low resolutions [N, C, *spatial] with every value repeated up to (C, *spatial)."""
    for axis, size in enumerate(shape[1:], start=2):
        low_res = low_res.repeat_interleave(size // low_res.shape[axis], dim=axis)
    return low_res


def main(which: str) -> None:
    """Run one of the sets."""
    if which == "digits":
        classifier = judge("mnist5k", digits.classifier_of(Path("runs/digits")), digits.JUDGE)
        run(
            "mnist5k", Path("runs/digits_sr"), PICTURES / "digits_sr.png",
            example=DIGITS, features=(classifier,), n=1000, steps=10, average=8,
        )  # fmt: skip
    elif which == "photos":
        run(
            prepared(photos.prepare), Path("runs/photos_sr"), PICTURES / "photos_sr.png",
            example=PHOTOS, features=("pca",), n=104, steps=15, average=8, shown=6,
        )  # fmt: skip
    else:
        run(
            prepared(volumes.prepare), Path("runs/volumes_sr"), PICTURES / "volumes_sr.png",
            example=VOLUMES, features=("pca",), n=60, steps=15, measured=60, shown=6,
        )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1])
