"""List what of the site has no Chinese yet, page by page: ``python docs/untranslated.py``.

``python docs/untranslated.py PAGE...`` prints the missing strings of these pages, and ``--update``
writes them into ``docs/locale/zh_CN/LC_MESSAGES/PAGE.po``, where ``msgstr`` takes the translation.
The generated reference, the benchmarks, shown source files and the project's pages stay English.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from _site.stage import DOCS, ROOT, Stage
from babel.messages.catalog import Catalog
from sphinx_intl.catalog import dump_po, load_po

BUILD = DOCS / "_build"
FOLDER = DOCS / "locale/zh_CN/LC_MESSAGES"
ENGLISH = ("reference/**", "source/**", "benchmarks/**", "contributing.md", "changelog.md")
BILINGUAL = ("glossary.md", "tutorials/network.ipynb")
CODE = re.compile(r"`[^`]*`|\]\([^)]*\)|[a-z_]+[._=][\w.=]+")


def texts() -> Path:
    """Write the strings of all pages as .pot files; return their folder."""
    stage = Stage(BUILD / "texts")
    stage.gather()
    for name, page in stage.pages.items():
        if name.startswith("notebooks/") and name.endswith(".py"):
            notebook = jupytext.read(ROOT / name)
            notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
            for number, cell in enumerate(notebook.cells):
                cell.id = f"cell-{number}"
                cell.source = stage.linked(cell.source, name, page)
            stage.write(f"{page}.ipynb", nbformat.writes(notebook) + "\n")
    output = BUILD / "gettext"
    command = [sys.executable, "-m", "sphinx", "-Q", "-b", "gettext", "-c", str(DOCS)]
    options = [
        "-D",
        f"exclude_patterns={','.join((*ENGLISH, *BILINGUAL))}",
        "-d",
        str(BUILD / "doctrees_gettext"),
    ]
    subprocess.run([*command, *options, str(stage.folder), str(output)], check=True)
    return output


def pages(output: Path) -> Iterator[tuple[str, Catalog, Catalog]]:
    """Yield each page with its strings and what is translated of them."""
    outside = [part.partition(".")[0].rstrip("/*") for part in (*ENGLISH, *BILINGUAL)]
    for path in sorted(output.rglob("*.pot")):
        name = path.relative_to(output).with_suffix("").as_posix()
        if not name.startswith(tuple(outside)):
            kept = FOLDER / f"{name}.po"
            known = load_po(kept) if kept.exists() else Catalog(locale="zh_CN")
            yield name, load_po(path), known


def missing(template: Catalog, known: Catalog) -> list[str]:
    """Return the strings without a translation that still fits."""
    done = {message.id for message in known if message.string and not message.fuzzy}
    return [text for text in words_of(template) if text not in done]


def words_of(template: Catalog) -> list[str]:
    """Return the strings that hold more than code and numbers."""
    strings = [str(message.id) for message in template if message.id]
    return [text for text in strings if re.search(r"[A-Za-z]{2}", CODE.sub("", text))]


def main() -> None:
    """List, print or write what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", help="print the missing strings of these pages")
    parser.add_argument("--update", action="store_true", help="write the .po files of these pages")
    options = parser.parse_args()
    total = lost = 0
    for name, template, known in pages(texts()):
        left = missing(template, known)
        strings = len(words_of(template))
        total, lost = total + strings, lost + len(left)
        if name not in options.pages:
            print(f"{name:40} {len(left):5} of {strings:5} strings without Chinese")
        elif options.update:
            known.update(template, no_fuzzy_matching=True)
            known.obsolete.clear()
            known.project, known.fuzzy = "iddpm", False
            known.header_comment = f"# Chinese of the page {name}."
            known.last_translator = known.language_team = "the iddpm maintainers"
            dump_po(FOLDER / f"{name}.po", known, width=100)
            print(f"wrote {FOLDER / name}.po: {len(left)} of {strings} strings to translate")
        else:
            print(*left, sep="\n\n")
    print(f"{'all':40} {lost:5} of {total:5} strings without Chinese")


if __name__ == "__main__":
    main()
