"""Reports of several runs side by side."""

from collections.abc import Sequence
from typing import Any

from iddpm.evaluation.metrics import METRICS
from iddpm.evaluation.report import cell, metric_title, row

Report = dict[str, Any]
_FIDELITY = {"psnr": "PSNR in dB", "ssim": "SSIM"}


def records(reports: Sequence[Report]) -> list[dict[str, Any]]:
    """Return one flat record for each run: its numbers, those with an error followed by it."""
    return [_record(report) for report in reports]


def table(reports: Sequence[Report]) -> str:
    """Return Markdown with a column for each run, and what makes them hard to compare."""
    found = records(reports)
    lines = [row(["measure", *(str(r["run"]) for r in found), "better"])]
    lines += [row(["---"] * (len(found) + 2)), row(["samples", *_plain(found, "samples"), ""])]
    for name, metric in METRICS.items():
        titles = dict.fromkeys(metric_title(name, report) for report in reports)
        cells = [cell(report["samples"][name], metric.scale) for report in reports]
        lines.append(row([" / ".join(titles), *cells, metric.better]))
    for name, title in _FIDELITY.items():
        values = [_nearness(report).get(name) for report in reports]
        if any(values):
            cells = ["-" if value is None else cell(value) for value in values]
            lines.append(row([title, *cells, "higher"]))
    notes = [f"- Warning: {warning}." for warning in differences(reports)]
    return "\n".join(["# Evaluation of several runs", "", *lines, "", *notes]).rstrip() + "\n"


def differences(reports: Sequence[Report]) -> list[str]:
    """Return warnings about runs that were measured in different ways."""
    facts = {
        "features": lambda report: report["features"]["hash"],
        "real data": lambda report: report["reference"].get("split"),
        "numbers of samples": lambda report: report["samples"]["count"],
    }
    return [
        f"the runs were measured with different {what}, so their numbers are not comparable"
        for what, fact in facts.items()
        if len({fact(report) for report in reports}) > 1
    ]


def _record(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = {
        "run": report["run"],
        "samples": report["samples"]["count"],
        "features": report["features"]["name"],
    }
    values = {name: report["samples"][name] for name in METRICS} | _nearness(report)
    for name, value in values.items():
        if isinstance(value, dict):
            found |= {name: value["value"], f"{name}_error": value["error"]}
        else:
            found[name] = value
    return found


def _nearness(report: Report) -> dict[str, Any]:
    """Return how near the samples come to the truth, where each has one."""
    compared = report.get("super_resolution") or report.get("paired")
    if not compared:
        return {}
    return {name: compared["ways"]["samples"][name] for name in _FIDELITY}


def _plain(found: Sequence[dict[str, Any]], name: str) -> list[str]:
    return [str(record[name]) for record in found]
