from __future__ import annotations

import ipaddress
import uuid

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.metrics.patterns import FORMATS, checked, of_format
from mesh_pipelines.contract.metrics.refusal import Uncompilable


def matches(name: str, text: str) -> bool:
    return bool(re2.search(of_format(name), text))


def test_every_named_format_is_a_pattern_that_the_engine_runs():
    for pattern in FORMATS.values():
        assert checked(pattern)


def is_address(text: str, kind: type) -> bool:
    try:
        return bool(kind(text))
    except ValueError:
        return False


@given(st.ip_addresses(v=4).map(str) | st.text("0123456789.", max_size=16))
def test_ipv4_is_what_the_standard_library_reads(text):
    assert matches("ipv4", text) is is_address(text, ipaddress.IPv4Address)


@given(
    st.ip_addresses(v=6).map(str)
    | st.ip_addresses(v=6).map(lambda address: address.exploded)
    | st.text("0123af:.", max_size=20)
    | st.lists(st.sampled_from(["", "1", "ffff", "1.2.3.4"]), min_size=1, max_size=9).map(":".join)
)
def test_ipv6_is_what_the_standard_library_reads(text):
    assert matches("ipv6", text) is is_address(text, ipaddress.IPv6Address)


@given(st.uuids().map(str))
def test_uuids(text):
    assert matches("uuid", text)
    assert matches("uuid", text.upper())
    assert not matches("uuid", text[:-1])
    assert not matches("uuid", f"{text}\n")
    assert uuid.UUID(text)


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("email", "first.last+tag@mail.example.co.uk", True),
        ("email", "o'neil@example.com", True),
        ("email", "me@localhost", True),
        ("email", "me@-example.com", False),
        ("email", "me example.com", False),
        ("email", "@example.com", False),
        ("email", "a@b.c\n", False),
        ("uri", "https://user@example.com:8080/a/b?c=d&e=%20#f", True),
        ("uri", "urn:isbn:0451450523", True),
        ("uri", "mailto:me@example.com", True),
        ("uri", "http://[2001:db8::1]/", True),
        ("uri", "/relative", False),
        ("uri", "1http://x", False),
        ("uri", "http://a b", False),
        ("uri", "http://ä", False),
        ("uri", "http://<x>", False),
        ("hostname", "localhost", True),
        ("hostname", "a-b.example.com", True),
        ("hostname", "a_b.example.com", False),
        ("hostname", "example.com.", False),
        ("hostname", f"{'a' * 64}.com", False),
        ("hostname", f"{'a' * 63}.com", True),
    ],
)
def test_formats(name, text, valid):
    assert matches(name, text) is valid


@pytest.mark.parametrize("pattern", ["a(?=b)", "(?<!a)b", r"(a)\1", "(", "[", "*", r"\u00G1", "a{5000}"])
def test_what_re2_does_not_know_is_refused(pattern):
    with pytest.raises(Uncompilable, match="is not RE2"):
        checked(pattern)


@given(st.text(max_size=12))
def test_a_pattern_that_passes_runs_in_the_engine(pattern):
    import duckdb

    try:
        checked(pattern)
    except Uncompilable:
        return
    if "\0" in pattern:
        return
    with duckdb.connect() as connection:
        [(found,)] = connection.execute("SELECT regexp_matches('a b\nc', ?)", [pattern]).fetchall()
    assert found is bool(re2.search(pattern, "a b\nc"))


@pytest.mark.parametrize("name", ["password", "", None])
def test_other_formats_are_refused(name):
    with pytest.raises(Uncompilable, match="must be a known format, got"):
        of_format(name)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^[\u0041-\u005A]+$", "ABC"),
        (r"^\ud83d\ude00$", "\U0001f600"),
        (r"^\\u0041$", r"\u0041"),
        (r"^\\\u0041$", r"\A"),
    ],
)
def test_characters_by_their_numbers_are_those_of_the_standard(pattern, text):
    assert re2.search(checked(pattern), text)


@pytest.mark.parametrize("pattern", ["^.{0,2000}$", "^[A-Z]{1001}$", "^((a{2,32}|b){1,32})$", "(a{1000}){1000}"])
def test_too_many_repetitions_lead_to_the_length(pattern):
    with pytest.raises(Uncompilable) as raised:
        checked(pattern)
    assert "for the length of a text use maxLength" in raised.value.fix


def test_other_constructs_lead_to_writing_it_otherwise():
    with pytest.raises(Uncompilable) as raised:
        checked(r"^(?!000)\d{3}$")
    assert raised.value.fix == "write it without look-around and back-references"
