"""A report that people read."""

from typing import Any

from iddpm.evaluation.metrics import METRICS


def markdown(report: dict[str, Any]) -> str:
    """Return ``report.json`` as Markdown: a table and notes."""
    samples, held_out, fewer = (report[key] for key in ("samples", "held_out", "as_many_samples"))
    header = ["measure", f"{samples['count']} samples"]
    if fewer:
        header.append(f"{fewer['count']} of them")
    if held_out:
        header.append(f"{held_out['count']} held-out items")
    lines = [row([*header, "better"]), row(["---"] * (len(header) + 1))]
    for name, metric in METRICS.items():
        cells = [
            cell(columns[name], metric.scale) for columns in (samples, fewer, held_out) if columns
        ]
        lines.append(row([metric_title(name, report), *cells, metric.better]))
    lines += _finer(report) + _paired(report)
    title = f"# Evaluation of {report['run'] or report['generated']}"
    return "\n".join([title, "", *lines, "", *_notes(report)]) + "\n"


def metric_title(name: str, report: dict[str, Any]) -> str:
    """Return what a report calls a metric: FID and KID where the features are Inception's."""
    title = METRICS[name].title
    if name == "frechet_distance":
        return str(report["frechet_name"])
    if name == "kernel_distance":
        return title.replace("kernel distance", report.get("kernel_name", "kernel distance"))
    return title


def _paired(report: dict[str, Any]) -> list[str]:
    """Return the table of outputs beside the truth that each of them stands for."""
    paired = report.get("paired")
    if not paired:
        return []
    header = [f"{paired['count']} pairs", *paired["ways"], "better"]
    lines = ["", row(header), row(["---"] * len(header))]
    for title, key in (("PSNR in dB", "psnr"), ("SSIM", "ssim")):
        cells = [cell(way[key]) for way in paired["ways"].values()]
        lines.append(row([title, *cells, "higher"]))
    return lines


def _finer(report: dict[str, Any]) -> list[str]:
    """Return the table of super-resolution: samples beside interpolation."""
    upscaled = report.get("super_resolution")
    if not upscaled:
        return []
    rows = (
        ("PSNR in dB", "psnr", "higher"),
        ("SSIM", "ssim", "higher"),
        ("perceptual distance", "perceptual", "lower"),
        ("PSNR after downsampling again", "low_res_psnr", "higher"),
        (report["frechet_name"], "frechet_distance", "lower"),
    )
    header = [f"{upscaled['count']} held-out items", *upscaled["ways"], "better"]
    lines = ["", row(header), row(["---"] * len(header))]
    for title, key, better in rows:
        if all(way.get(key) is not None for way in upscaled["ways"].values()):
            cells = [cell(way[key]) for way in upscaled["ways"].values()]
            lines.append(row([title, *cells, better]))
    return lines


def _notes(report: dict[str, Any]) -> list[str]:
    features, drawn, reference = report["features"], report["drawn"], report["reference"]
    bits = drawn["rounded_to_bits"]
    notes = [
        f"- Features: {features['name']}, {features['size']} numbers, SHA-256 {features['hash']}, "
        f"resizing: {features['resize']}"
        + (", whitened with the covariance of the real data." if features["whitened"] else ".")
        + (
            (
                " Precision, recall, density and coverage also use the norm of the residual "
                "outside the components."
            )
            if features.get("beside")
            else ""
        ),
        (
            f"- Real data: {reference['count']} items of {reference['data']}; kernel distance, "
            f"precision, recall, density and coverage use {report['samples']['compared_with']} of "
            "them."
        ),
        f"- Samples: {drawn['file']}."
        if "file" in drawn
        else f"- Samples: {drawn['walk']}, seed {drawn['seed']}, classes {drawn['classes']}.",
        "- Samples are floats, like the data."
        if bits is None
        else f"- Samples are rounded to {bits} bits, like the data.",
        "- +- is one standard error over the samples.",
    ]
    if report.get("paired"):
        notes.append(
            "- PSNR and SSIM compare each output with the real item that it belongs to. A sample "
            "of a perfect model has twice the squared error of the mean of all outputs that fit "
            "the paired data."
        )
    upscaled = report.get("super_resolution")
    if upscaled:
        notes.append(
            f"- The model {upscaled['task']}. It upsamples each held-out item once, beside linear "
            "and bicubic interpolation of the same low-resolution input. PSNR comes from the mean "
            "squared error over all items; the second row downsamples each result again and "
            "compares it with its low-resolution input. A sample of a perfect model has twice the "
            "squared error of the mean of all outputs that fit the input."
        )
        notes += _leanings(upscaled)
    judged = report["memorisation"]
    if judged:
        verdict = (
            "MEMORIZED: more copies of training items than chance explains"
            if judged["flagged"]
            else "no sign of memorization"
        )
        notes.append(
            f"- {verdict}: {100 * judged['copies']:.1f} % of the samples are closer to one "
            "training item than held-out items are (chance explains up to "
            f"{100 * judged['limit']:.1f} %); {100 * judged['near']:.1f} % are near the "
            "training set."
        )
    accuracy = report["accuracy"]
    if accuracy:
        shares = ", ".join(f"{name} {100 * v:.1f}" for name, v in accuracy["per_class"].items())
        overall = accuracy["overall"]
        notes.append(
            f"- The classifier predicts the requested class for {100 * overall['value']:.1f} "
            f"+- {100 * overall['error']:.1f} % of the samples; by class, in %: {shares}."
        )
    return notes + [f"- Warning: {warning}." for warning in report["warnings"]]


def _leanings(upscaled: dict[str, Any]) -> list[str]:
    """Return which way each measure of nearness leans, and whether the spread is right."""
    notes = [
        "- PSNR and, less so, SSIM lean to what is smooth: means of samples, and one evaluation, "
        "which estimates the mean. The Frechet distance leans to what is as sharp as real data: "
        "one sample. The perceptual distance, in the stages of the run's own network with little "
        "noise, lies between and leans to what that network draws."
    ]
    spread = upscaled.get("spread")
    if spread:
        n, ratio = spread["samples"], spread["ratio"]
        error, expected = spread["error"]["value"], spread["expected"]["value"]
        verdict = "as much as they should"
        if abs(ratio["value"] - 1) > max(0.1, 2 * ratio["error"]):
            verdict = "too little" if ratio["value"] > 1 else "too much"
        notes.append(
            f"- Spread: the mean of {n} samples has the squared error {error:.4g}, and MMSE "
            f"(1 + 1/{n}) by the samples' own variance is {expected:.4g}: the error is "
            f"{cell(ratio)} times that, so that samples of one item differ {verdict}."
        )
    return notes


def cell(value: Any, scale: float = 1) -> str:
    """Return a number, or a number with its standard error, as a table shows it."""
    if not isinstance(value, dict):
        return f"{scale * value:.4f}"
    return f"{scale * value['value']:.4g} +- {scale * value['error']:.2g}"


def row(cells: list[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"
