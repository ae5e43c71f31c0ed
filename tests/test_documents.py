"""The README and the pages in docs: links that lead somewhere, one set of numbers in both
languages, and each of them printed by a measurement."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
PAGES = sorted([*READMES, *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))])
MEASURED = (
    "docs/runs.md",
    "docs/likelihood.md",
    "benchmarks/samplers.md",
    "benchmarks/likelihood.md",
    "benchmarks/network.md",
)
"""Where the README's numbers come from; each of these pages has the command that prints them."""


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def code_lines(page: str) -> list[str]:
    """The lines of its blocks of code; one that ends with a backslash goes on in the next."""
    found, fenced = [], False
    for line in text(page).replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            found.append(line.strip())
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text(page)):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"


def test_every_page_has_its_place_in_the_site():
    """As Sphinx checks when `make docs` builds it, later."""
    places = re.findall(r"^(?!:)[\w/]+$", text("docs/index.md"), re.MULTILINE)
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    pages |= {f"benchmarks/{path.stem}" for path in (ROOT / "benchmarks").glob("*.md")}
    scripts = [p for p in (ROOT / "notebooks").glob("*.py") if "# %%" in p.read_text("utf-8")]
    pages |= {f"tutorials/{path.stem}" for path in scripts}
    missing = pages - set(places)
    assert not missing, f"add to a toctree of docs/index.md: {missing}"
    assert len(places) == len(set(places))


def test_both_readmes_have_the_same_rows_commands_and_links():
    english, chinese = (text(page) for page in READMES)

    def rows(page: str) -> list[list[str]]:
        """What is in code in each row, and before the comparison of projects also its numbers."""
        tables, _, compared = page.partition("| | iddpm |")
        numbered = [re.findall(r"`[^`]+`|[+-]?\d[\d.,e+]*", row) for row in in_tables(tables)]
        return numbered + [re.findall("`[^`]+`", row) for row in in_tables(compared)]

    def in_tables(page: str) -> list[str]:
        return [line for line in page.splitlines() if line.startswith("|")]

    def without_comments(page: str) -> list[str]:
        return [line.split("# ")[0].strip() for line in code_lines(page)]

    assert rows(english) == rows(chinese)
    assert without_comments(READMES[0]) == without_comments(READMES[1])
    links = [set(re.findall(r"\]\(([^)]+)\)", page)) - set(READMES) for page in (english, chinese)]
    assert links[0] == links[1]


def test_every_number_in_the_readme_is_measured():
    page = text("README.md")
    measured = "\n".join(text(name) for name in MEASURED).replace("±", "+-")
    rows = page[page.index("## Measured") : page.index("## How it compares")]
    cells = [c.strip() for r in rows.splitlines() if r.startswith("|") for c in r.split("|")]
    values = [v for c in cells for v in re.findall(r"-?\d+\.\d+(?:e[+]\d+)?(?: \+- [\d.]+)?", c)]
    assert len(values) > 25
    missing = [v for v in values if not re.search(rf"(?<![\d.]){re.escape(v)}(?!\d)", measured)]
    assert not missing, f"none of {MEASURED} has {missing}"
