"""The page around the sections: one file, no script, nothing from the network."""

from __future__ import annotations

import re
from html import escape

from r1omni.analysis.style import STYLE

_ANCHOR = re.compile(r'<section id="([\w-]+)"[^>]*>\s*<h2[^>]*>([^<]*)</h2>')


def page(title: str, sections: list[str]) -> str:
    """A whole HTML document.

    Args:
        title: plain text.
        sections: HTML of `r1omni.analysis.markup.section`.
    """
    links = "".join(
        f'<li><a href="#{found[1]}">{found[2]}</a></li>'
        for text in sections
        for found in [_ANCHOR.match(text)]
        if found
    )
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header class="top">
<h1>{escape(title)}</h1>
<p>An audio-visual language model that recognises the emotion in a video and explains itself.</p>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""
