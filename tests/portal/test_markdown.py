"""Markdown that others wrote comes out as harmless HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.portal.markdown import render, safe_url

ALLOWED = {"p", "br", "hr", "strong", "em", "s", "a", "code", "pre", "blockquote", "ul", "ol", "li"} | {
    *("table", "thead", "tbody", "tr", "th", "td", "h3", "h4", "h5", "h6")
}


class Tags(HTMLParser):
    """The tags of a text with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def harmless(html: str) -> None:
    for tag, attributes in Tags(html).found:
        assert tag in ALLOWED, html
        assert set(attributes) <= ({"href", "title", "rel"} if tag == "a" else {"start", "class"}), html
        if "href" in attributes:
            assert re.match(r"(https?|mailto):", attributes["href"] or "", re.IGNORECASE), html


@pytest.mark.parametrize(
    "source",
    [
        "<script>pwned()</script>",
        "<img src=x onerror=pwned()>",
        "<svg/onload=pwned()>",
        "<a href=javascript:pwned()>a</a>",
        "[a](javascript:pwned())",
        "[a](JaVaScRiPt:pwned())",
        "[a](java\tscript:pwned())",
        "[a](&#106;avascript:pwned())",
        "[a](&#x6A;avascript&colon;pwned())",
        "[a](data:text/html,<script>pwned()</script>)",
        "[a](vbscript:pwned())",
        "[a](file:///etc/passwd)",
        "[a](//evil.example)",
        "[a](/incidents/1)",
        "<javascript:pwned()>",
        "![a](https://evil.example/x.png)",
        "![a](javascript:pwned())",
        "[![a](javascript:1)](javascript:2)",
        "[a](https://x.example \"' onmouseover='pwned()\")",
        '[a](https://x.example/"onmouseover=pwned())',
        "[a]: javascript:pwned()\n\n[a]",
        "<!-- --><script>pwned()</script>",
        "```html\n<script>pwned()</script>\n```",
        '```"onload=pwned()\nx\n```',
        "> - > - <details open ontoggle=pwned()>",
        "| a |\n|---|\n| <img src=x onerror=pwned()> |",
        "# <iframe srcdoc='<script>pwned()</script>'>",
        "<style>*{background:url(//evil.example)}</style>",
        "<base href=//evil.example>",
        "<form action=//evil.example><button>",
        "<math><mtext><table><mglyph><style><img src=x onerror=pwned()>",
        "<noscript><p title='</noscript><img src=x onerror=pwned()>'>",
        "\0<scr\0ipt>pwned()</script>",
    ],
)
def test_what_is_written_to_harm_does_not(source: str) -> None:
    html = render(source)
    harmless(html)
    assert "<img" not in html


@given(st.text(alphabet=st.sampled_from("<>()[]!\"'`&#:;/=| \n\tscriptjavadonlm-_*~x1"), max_size=200))
def test_no_text_makes_anything_else(source: str) -> None:
    harmless(render(source))


def test_text_is_formatted() -> None:
    source = "# Title\n\nA **strong** [link](https://x.example/a?b=1) and <ann@example.com>.\n\n- `code`\n\n~~no~~"
    html = render(source)
    assert "<h3>Title</h3>" in html
    assert "<strong>strong</strong>" in html
    assert '<a href="https://x.example/a?b=1" rel="noopener noreferrer nofollow">link</a>' in html
    assert 'href="mailto:ann@example.com"' in html
    assert "<code>code</code>" in html
    assert "<s>no</s>" in html
    assert "<td>1</td>" in render("|a|\n|-|\n|1|")


@pytest.mark.parametrize("depth", [1, 2, 6])
def test_headings_begin_below_those_of_the_page(depth: int) -> None:
    assert f"<h{min(6, depth + 2)}>" in render(f"{'#' * depth} a")


def test_html_is_shown_as_it_was_typed() -> None:
    assert "&lt;b&gt;" in render("<b>bold</b>")


@pytest.mark.parametrize(
    "url", ["https://x.example", "HTTP://x.example", "mailto:ann@x.example", " https://x.example "]
)
def test_addresses_that_are_linked(url: str) -> None:
    assert safe_url(url) == url.strip()


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "javascript:alert(1)",
            " javascript:alert(1)",
            "java\nscript:alert(1)",
            "data:text/html,x",
            "//evil.example",
        ),
        *(
            "/local",
            "x",
            "https",
            "vbscript:x",
            "\x01javascript:alert(1)",
            "ht\ttps://x",
            "blob:https://x",
            "file:///x",
        ),
    ],
)
def test_addresses_that_are_not(url: str) -> None:
    assert safe_url(url) == ""
