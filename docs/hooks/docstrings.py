"""Docstrings as Markdown: their names of arguments become lists, their "THEORY section" links."""

import re
from html import escape

import griffe

_FIELD = re.compile(r"^([A-Za-z_][\w]*(?:, [A-Za-z_]\w*)*): (.*)$")
_SECTION = re.compile(r"THEORY sections? (\d+)(?: and (\d+))?")
_PROSE = {"Raises", "Source", "Returns", "Units", "Example"}


class Fields(griffe.Extension):
    """Rewrites every docstring as it is read."""

    def on_object(self, *, obj, **_) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Paragraphs of ``name: what it is`` as lists; stars and angle brackets as themselves."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return _linked("\n\n".join(_paragraph(p) for p in paragraphs))


def _paragraph(text: str) -> str:
    lines = text.split("\n")
    out: list[str] = []
    listed = False
    for line in lines:
        line = line.strip()
        match = _FIELD.match(line)
        if match and match[1] not in _PROSE:
            names = ", ".join(f"`{name}`" for name in match[1].split(", "))
            # A list needs a blank line before it.
            out += ([""] if out and not listed else []) + [f"- {names}: {_escaped(match[2])}"]
            listed = True
        elif listed and line.split(" ")[0] in ("Raises", "Source:", "Every", "Returns"):
            out += ["", _escaped(line)]
            listed = False
        else:
            out.append(("  " if listed else "") + _escaped(line))
    return "\n".join(out)


def _escaped(line: str) -> str:
    """Outside of code: a star is a star."""
    parts = re.split(r"(``.*?``|`.*?`)", line)
    return "".join(
        p if p.startswith("`") else re.sub(r"([*_\[\]])", r"\\\1", escape(p, quote=False)) for p in parts
    )


def _linked(text: str) -> str:
    def link(match):
        first = f"[Theory, section {match[1]}][theory-{match[1]}]"
        return first + (f" and [section {match[2]}][theory-{match[2]}]" if match[2] else "")

    return _SECTION.sub(link, text)
