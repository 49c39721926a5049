"""Formulas become MathML when the site is built: a page needs no script to show them, and no network."""

import html
import re

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_page_content(content: str, page, **_) -> str:
    def mathml(match, display):
        source = html.unescape(match[1]).strip()
        result = convert(source, display=display)
        if "\\" in re.sub(r"<[^>]*>", "", result):
            raise PluginError(f"{page.file.src_uri}: a formula has a command that MathML lacks: {source}")
        return result

    content = _DISPLAY.sub(lambda m: f'<div class="formula">{mathml(m, "block")}</div>', content)
    return _INLINE.sub(lambda m: mathml(m, "inline"), content)
