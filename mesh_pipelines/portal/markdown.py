"""Text that others wrote, as HTML that does nothing but look like text.

HTML in the source is shown as it was typed, and what the renderer makes is cleaned once more by an allow-list, so that
neither of the two alone has to be without fault. Links lead to http, https and mailto addresses only; pictures, which
would call other hosts, are left out.
"""

from __future__ import annotations

from functools import cache

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markupsafe import Markup

_TAGS = frozenset(
    [
        *("p", "br", "hr", "strong", "em", "s", "a", "code", "pre", "blockquote", "ul", "ol", "li"),
        *("table", "thead", "tbody", "tr", "th", "td", "h3", "h4", "h5", "h6"),
    ]
)
_SCHEMES = frozenset({"http", "https", "mailto"})


def render(text: str) -> Markup:
    """CommonMark with tables as safe HTML; headings begin at the third level, below those of the page."""
    html = _renderer().render(text)
    return Markup(
        nh3.clean(
            html,
            tags=set(_TAGS),
            attributes={"a": {"href", "title"}},
            attribute_filter=_only_safe,
            url_schemes=set(_SCHEMES),
            link_rel="noopener noreferrer nofollow",
        )
    )


def safe_url(url: str) -> str:
    """The address if a page may link to it (http, https, mailto), else the empty text."""
    scheme, colon, _ = url.strip().partition(":")
    return url.strip() if colon and scheme.lower() in _SCHEMES else ""


def _only_safe(_tag: str, attribute: str, value: str) -> str | None:
    """The attribute, unless it is an address that a page may not link to, those without a scheme included."""
    return value if attribute != "href" or safe_url(value) else None


@cache
def _renderer() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")
    parser.core.ruler.push("lower_headings", _lower_headings)
    return parser


def _lower_headings(state: StateCore) -> None:
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
