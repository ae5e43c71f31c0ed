"""Names of other libraries in signatures, so that their links need no network.

``docs/_site/names.txt`` lists them, one a line: library, kind of object, name, page.
"""

import zlib
from pathlib import Path

NAMES = Path(__file__).with_name("names.txt")
PAGES = {
    "python": "https://docs.python.org/3/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "numpy": "https://numpy.org/doc/stable/",
}
IGNORED = [
    ("py:.*", r"'.*'"),  # the values of a Literal
    ("py:.*", r".*\[str"),  # halves of types that Sphinx splits
    ("py:.*", r".*\.T(_co)?"),  # type variables
    ("py:.*", r"(rich|pydantic|PIL|typing)\..*"),
    ("py:.*", r"iddpm\.(config\.choices\.SPACINGS|networks\.(trunk\.Init|layers\.AnyModule))"),
    ("py:.*", r"iddpm\.builders\.(choices\.load|run_data\.Split|tiling\.Tiling|task\.Task)"),
    ("py:.*", r"iddpm\.training\.(noise_assignment\.NearestNoise|time_plan\.TimePlan)"),
    ("py:.*", r"iddpm\.tasks\.(pairs\.Pairs|fidelity_ways\.Ways|samples\.Samples)"),
    ("py:.*", r"iddpm\.data\.sources\.(zip_files|tables|shards)\.\w+"),
    ("py:.*", r"iddpm\.(data\.conditioning\.conditions|training\.checkpoints\.weights)\.\w+"),
]
"""References that nothing documents: kind and name, as patterns."""


def mapping(folder: Path) -> dict[str, tuple[str, str]]:
    """Write an inventory in Sphinx's format for each library, and say where they lie."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {library: [] for library in PAGES}
    for line in NAMES.read_text(encoding="utf-8").splitlines():
        library, kind, name, page = line.split()
        lines[library].append(f"{name} py:{kind} 1 {page} -")
    for library, rows in lines.items():
        head = f"# Sphinx inventory version 2\n# Project: {library}\n# Version: \n"
        head += "# The remainder of this file is compressed using zlib.\n"
        body = zlib.compress("\n".join([*rows, ""]).encode())
        path, whole = folder / f"{library}.inv", head.encode() + body
        if not path.exists() or path.read_bytes() != whole:  # two builds may run at once
            path.write_bytes(whole)
    return {library: (page, str(folder / f"{library}.inv")) for library, page in PAGES.items()}
