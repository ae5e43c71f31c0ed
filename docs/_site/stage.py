"""Gather the pages of the site in one folder, with links between them and to the source.

Pages keep the relative links that also work in the repository. Here they become links between the
pages of the site; a link to any other file of the repository leads to a page that shows the file.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()(?![a-z][a-z+.-]*:)([^)\s#]+)(#[^)\s]*)?(?=\))")
FENCE = re.compile(r"\s*(`{3,}|~{3,}|:{3,})")
SHOWN = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".toml": "toml", ".pyi": "python"}
"""Languages of source files that a link can lead to."""
BILINGUAL = {"README.md": "index", "README.zh-CN.md": "index"}


class Stage:
    """The folder that Sphinx reads.

    Attributes:
        folder: where it lies.
        pages: page of the site by file of the repository, both without the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages = dict(BILINGUAL)
        self.written: set[Path] = set()
        self.waiting: list[Path] = []
        self.dead: list[str] = []
        for path in sorted(DOCS.rglob("*.md")):
            place = path.relative_to(DOCS)
            if not place.parts[0].startswith("_") and place.parts[0] != "locale":
                self.pages[f"docs/{place.as_posix()}"] = place.with_suffix("").as_posix()
        for path in sorted((ROOT / "benchmarks").glob("*.md")):
            self.pages[f"benchmarks/{path.name}"] = f"benchmarks/{path.stem}"
        for path in sorted((ROOT / "notebooks").glob("*.py")):
            if "# %%" in path.read_text(encoding="utf-8"):
                self.pages[f"notebooks/{path.name}"] = f"tutorials/{path.stem}"
                self.pages[f"notebooks/{path.stem}.ipynb"] = f"tutorials/{path.stem}"
        for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
            self.pages[name] = name.partition(".")[0].lower()

    def write(self, place: str, text: str) -> None:
        """Write a file of the stage if it changed, so that Sphinx renders only what did."""
        path = self.folder / place
        self.written.add(path)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def gather(self) -> None:
        """Copy the pages written by hand and their pictures."""
        for name, page in self.pages.items():
            if name.endswith(".md") and name not in BILINGUAL:
                text = (ROOT / name).read_text(encoding="utf-8")
                self.write(f"{page}.md", self.linked(text, name, page))
        for picture in sorted(DOCS.rglob("*.png")):
            place = picture.relative_to(DOCS)
            if not place.parts[0].startswith("_"):
                self.copy(picture, place.as_posix())
        while self.waiting:
            self._show(self.waiting.pop())

    def copy(self, file: Path, place: str) -> None:
        """Copy a picture."""
        target = self.folder / place
        self.written.add(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != file.read_bytes():
            shutil.copyfile(file, target)

    def finish(self) -> None:
        """Remove files of earlier builds; raise SystemExit for links to nothing."""
        for path in self.folder.rglob("*"):
            if path.is_file() and path not in self.written:
                path.unlink()
        if self.dead:
            raise SystemExit("links to files that do not exist:\n" + "\n".join(self.dead))

    def linked(self, text: str, name: str, page: str) -> str:
        """Return a page with the links of the site for those of the repository."""
        lines, fence = [], ""
        for number, line in enumerate(text.split("\n"), 1):
            mark = FENCE.match(line)
            if mark and (not fence or line.strip().startswith(fence)):
                fence = "" if fence else mark[1] if mark[1][0] != ":" else ""
            elif not fence:
                line = LINK.sub(self._target(name, page, number), line)
            lines.append(line)
        return "\n".join(lines)

    def _target(self, name: str, page: str, number: int) -> Callable[[re.Match[str]], str]:
        def target(found: re.Match[str]) -> str:
            file = os.path.normpath(os.path.join(os.path.dirname(name), found[1]))
            anchor = found[2] or ""
            here = os.path.dirname(page) or "."
            if file in self.pages:
                suffix = ".ipynb" if self.pages[file].startswith("tutorials/") else ".md"
                return os.path.relpath(f"{self.pages[file]}{suffix}", here) + anchor
            if file.startswith(("docs/reference/", "docs/_build/")):
                return os.path.relpath(file.removeprefix("docs/"), here) + anchor
            if not (ROOT / file).exists() or file.startswith(".."):
                self.dead.append(f"{name}:{number}: {found[1]}")
                return found[0]
            if file.startswith("docs/") and (ROOT / file).is_file():
                return os.path.relpath(file.removeprefix("docs/"), here)
            return os.path.relpath(self.shown(ROOT / file), here)

        return target

    def shown(self, path: Path) -> str:
        """Return the page that shows a file or lists a folder, which is written later."""
        self.waiting.append(path)
        return self._place(path)

    def _place(self, path: Path) -> str:
        return f"source/{path.relative_to(ROOT).as_posix()}.md"

    def _show(self, path: Path) -> None:
        place = self._place(path)
        if self.folder / place in self.written:
            return
        title = f"---\norphan: true\n---\n\n# `{path.relative_to(ROOT).as_posix()}`\n\n"
        if path.is_dir():
            inside = [p for p in sorted(path.iterdir()) if p.suffix in SHOWN]
            links = [os.path.relpath(self.shown(p), os.path.dirname(place)) for p in inside]
            rows = [f"- [{p.name}]({link})\n" for p, link in zip(inside, links, strict=True)]
            self.write(place, title + "".join(rows))
            return
        language = SHOWN.get(path.suffix, "text")
        text = path.read_text(encoding="utf-8").rstrip("\n")
        self.write(place, f"{title}````{language}\n{text}\n````\n")
