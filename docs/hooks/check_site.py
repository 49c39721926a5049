"""Checks the built site: ``python docs/hooks/check_site.py SITE``.

Every internal link and anchor exists, external links are well formed, no page loads anything from elsewhere,
no formula is left as its source, and every public name has its place in the reference.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}

_VERBATIM = {"pre", "code", "script", "style"}


class Page(HTMLParser):
    """Links, what is loaded, anchors and text of one page."""

    def __init__(self, html: str):
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.left_over = "arithmatex" in html
        self._verbatim = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self._verbatim += tag in _VERBATIM
        given = dict(attrs)
        self.anchors |= {v for v in (given.get("id"), given.get("name") if tag == "a" else None) if v}
        for name, value in attrs:
            if (tag, name) in _LOADS and given.get("rel") != "canonical":
                self.loads.append(value)
            elif tag == "a" and name == "href":
                self.links.append(value)

    def handle_endtag(self, tag):
        self._verbatim -= tag in _VERBATIM

    def handle_data(self, data):
        # A dollar outside of code is a formula that was not recognised.
        self.left_over |= not self._verbatim and "$" in data


def problems(site: Path) -> list[str]:
    """One line for each thing that is wrong."""
    pages = {path: Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        here = path.relative_to(site)
        if page.left_over:
            found.append(f"{here}: a formula is still TeX")
        for address in page.loads:
            if urlsplit(address).scheme not in ("", "data") or urlsplit(address).netloc:
                found.append(f"{here}: loads {address}")
        if here.name != "404.html":
            found += [f"{here}: {fault}" for link in page.links if (fault := _fault(link, path, site, pages))]
    return found + _undocumented(pages, site)


def _fault(link: str, path: Path, site: Path, pages: dict[Path, Page]) -> str | None:
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        return None if parts.netloc and " " not in link else f"malformed address {link}"
    if parts.scheme:
        return None if parts.scheme == "mailto" else f"link of another kind: {link}"
    target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file() or site not in target.parents:
        return f"no file for {link}"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return f"no anchor for {link}"
    return None


def _undocumented(pages: dict[Path, Page], site: Path) -> list[str]:
    import meanfield as mf

    anchors = set().union(
        *(page.anchors for path, page in pages.items() if path.parent == site / "reference")
    )
    names = [f"meanfield.{n}" for n in mf.__all__ if n not in ("activations", "empirical", "special_weights")]
    names += [f"meanfield.empirical.{n}" for n in mf.empirical.__all__]
    return [f"the reference lacks {name}" for name in names if name not in anchors]


def main() -> int:
    site = Path(sys.argv[1]).resolve()
    found = problems(site)
    print(
        "\n".join(found) or f"{len(list(site.rglob('*.html')))} pages: links, anchors and names are complete"
    )
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
