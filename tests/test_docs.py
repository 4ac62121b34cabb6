"""The pages as Markdown: links, headings, pictures, and the reference. Blocks: docs/conftest.py."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
ROOMS = (ROOT, ROOT / "docs", ROOT / "docs" / "learn", ROOT / "experiments", ROOT / "tests")
PAGES = [page for room in ROOMS for page in sorted(room.glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The text without blocks of code and without `code`."""
    text = re.sub(r"^(```+).*?^\1`*$", "", page.read_text(), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "`code`", text)


def headings(page: Path) -> list[tuple[int, str]]:
    text = re.sub(r"^(```+).*?^\1`*$", "", page.read_text(), flags=re.M | re.S)
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.*)$", text, re.M)]


def anchor(title: str) -> str:
    """As GitHub and MyST make it of a heading."""
    title = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()
    return re.sub(r"[^\w\- ]", "", title).replace(" ", "-")


def broken(page: Path) -> list[str]:
    """The links of `page` that lead to no file, or to no heading of one."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, section = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        titles = {anchor(title) for _, title in headings(place)} if section else set()
        if not place.exists() or (section and section not in titles):
            found.append(target)
    return found


@each_page
def test_links_and_anchors_lead_somewhere(page):
    assert not broken(page)


@each_page
def test_headings_are_in_order(page):
    levels = [level for level, _ in headings(page)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


@each_page
def test_pictures_exist_and_say_what_they_show(page):
    for alt, target in re.findall(r"!\[([^]]*)\]\(([^)\s]+)\)", prose(page)):
        assert (page.parent / target).is_file() and len(alt) > 10, target
    for target, options in re.findall(
        r"^```\{(?:image|figure)\} (\S+)\n(.*?)^```$", page.read_text(), re.M | re.S
    ):
        assert (page.parent / target).is_file() and re.search(r"^:alt: .{10}", options, re.M)


def test_a_broken_page_would_be_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One, *two*\n[a](#one-two) [b](#three) [c](gone.md) `[d](code)`\n")
    assert broken(page) == ["#three", "gone.md"]


@pytest.mark.parametrize("module", ["mnistjax", "mnistjax.ops"])
def test_the_reference_has_every_public_name_once_and_no_other(module):
    room = importlib.import_module("room")
    asked = re.findall(r"^```\{room\} (\w+)$", (ROOT / "docs" / "reference.md").read_text(), re.M)
    stub = ROOT / module.replace(".", "/") / "__init__.pyi"
    rooms = [""] if module == "mnistjax.ops" else [name for name in asked if name != "ops"]
    shown = [name for of in rooms for name in room.names_of(stub, of)]
    public = set(importlib.import_module(module).__all__) - {"ops"}
    if module == "mnistjax":
        shown += ["as_lax"]  # named there as that of mnistjax.ops, where it is described
    assert "ops" in asked and sorted(shown) == sorted(public)


def test_the_site_is_built_without_a_warning_and_asks_nothing_of_the_network(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    done = subprocess.run(
        [*command, "-d", tmp_path / "trees", ROOT / "docs", tmp_path / "site"],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    pages = {page.name: page.read_text() for page in (tmp_path / "site").rglob("*.html")}
    outside = r'<(?:script|link|img|source|iframe)\b[^>]*(?:src|href)="(?:https?:)?//'
    assert len(pages) > 20 and not [
        name for name, text in pages.items() if re.search(outside, text)
    ]
    styles = "".join(path.read_text() for path in (tmp_path / "site").rglob("*.css"))
    assert not re.search(r"""(?:@import|url\()\s*["']?(?:https?:)?//""", styles)
    assert 'id="mnistjax.train"' in pages["reference.html"]
    shown = re.sub(r"<[^>]+>", "", pages["reference.html"])
    assert "preprocess=to_unit" in shown and not re.search("=&lt;f(unction|actory)", shown)
    assert "Alias for field number" not in shown
    assert "<math xmlns" in pages["functional.html"] and "MathJax" not in "".join(pages.values())


@pytest.mark.parametrize("module", ["mnistjax", "mnistjax.ops"])
def test_every_public_name_has_a_docstring(module):
    there = importlib.import_module(module)
    assert not [name for name in there.__all__ if not (getattr(there, name).__doc__ or "").strip()]
