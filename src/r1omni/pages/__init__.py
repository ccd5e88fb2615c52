"""Pages of HTML that are whole in one file: what all of them share.

A page is a jinja2 template of its own package that extends `base.html` of this one. Values are
escaped, scripts and styles are put into the file, and a policy in it forbids the browser to load
anything from a network or to run a script that is not one of them. `static/uplot` is uPlot
(https://github.com/leeoniya/uPlot) 1.6.32 as it is published, under the MIT licence beside it.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

CHARTS = "uplot/uPlot.iife.min.js"
CHARTS_STYLE = "uplot/uPlot.min.css"
# What media a page may play: those beside it on the disk or on its own server, and what it holds.
MEDIA_SOURCES = "'self' file: data:"


def render(
    package: str,
    template: str,
    *,
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    media: str = "'none'",
    connect: str = "'none'",
    styled: bool = False,
    borrows: Sequence[str] = (),
    **values: Any,
) -> Iterator[str]:
    """A page in pieces, so that one that holds much is never whole in memory.

    Args:
        package: whose folders `templates` and `static` hold what is the page's own.
        template: name of the template.
        scripts: files of `static`, in the order in which they run; the page's own or shared ones.
        styles: likewise, behind the shared `base.css`.
        media: sources of sound and video for the page's policy.
        connect: what its scripts may ask, for the policy.
        styled: whether elements have attributes of style, such as the length of a bar.
        borrows: packages whose folders `static` it uses, too.
        values: what the template is given.
    """
    owners = (package, *borrows, __name__)
    code = [_static(owners, name) for name in scripts]
    looks = ["\n".join(_static(owners, name) for name in ("base.css", *styles))]
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(map(_source, code)) or "'none'",
        "style-src": " ".join(map(_source, looks)),
        "style-src-attr": "'unsafe-inline'" if styled else "'none'",
        "img-src": "data:",
        "media-src": media,
        "connect-src": connect,
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return (
        _environment(package)
        .get_template(template)
        .generate(
            scripts=[Markup(text) for text in code],
            styles=[Markup(text) for text in looks],
            policy="; ".join(f"{name} {sources}" for name, sources in policy.items()),
            **values,
        )
    )


def json_block(value: Any) -> Markup:
    """JSON for a `<script type="application/json">`, whatever texts are in it.

    Args:
        value: what is to be written, or a text that is JSON in ASCII already.
    """
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


@cache
def _environment(package: str) -> Environment:
    """Where a package's templates are found, and what they can use; read once."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(__name__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json_block"] = json_block
    return environment


@cache
def _static(owners: tuple[str, ...], name: str) -> str:
    """A file of the folder `static` of the first package that has one of that name."""
    for owner in owners:
        file = importlib.resources.files(owner) / "static" / name
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise FileNotFoundError(f"{owners[0]} has no static/{name}")


def _source(text: str) -> str:
    """How a policy names a text that stands in the page (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
