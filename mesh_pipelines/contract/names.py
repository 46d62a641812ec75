"""What things of a contract are called elsewhere: in Dagster, Iceberg, OpenLineage and Prometheus; pure.

A contract may say "owner: @platform" or tag a product "für alle"; a folder may have any name at all. The systems around
take less. Every mapping here is total (whatever text comes in, a name comes out that the other side takes) and one to
one (two texts never share a name), and depends on the text alone, so that it is the same in every process and under
every contract of a product. What the other side takes as it stands keeps its name; the rest gets a readable form of
itself with the first 12 hexadecimal digits of its SHA-256. A text that looks like such a form gets one, too.

Names of domains, products and fields need no mapping where they come from a contract without faults: ``NAME`` is what
all sides take. Topics have their names from contracts, in the letters that Kafka takes.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable

# A domain, a product, a field.
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
NAME_RULE = "use up to 63 lower-case letters, digits and underscores, starting with a letter"

# A topic, in the letters that Kafka takes.
TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")

# What an event may call a field: whatever can be written in one line of JSON without an escape.
EVENT_NAME = re.compile(r'[^"\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,255}')
EVENT_NAME_RULE = "use up to 255 characters other than quotes, backslashes and control characters"
_WORD = re.compile(r"[A-Z]+[0-9]*(?![a-z])|[A-Z]?[a-z]+[0-9]*|[0-9]+")

_DIGITS = 12
_MAPPED = re.compile(r"\.[0-9a-f]{12}$")
# Dagster's definitions of an address and of a tag (dagster/_core/utils.py, dagster/_utils/tags.py).
_ADDRESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._%+-]*@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,63}")
# A part of a rule's id that has none of the separators that stand for "." and ":" in the name of a check.
_PART = re.compile(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*")
_LONGEST_CHECK = 200


def column_name(event_name: str) -> str | None:
    """A column's name for what events call a field (``orderID``: ``order_id``).

    Accents are left out; None where that is not enough, such as for a name in another script or of digits.
    """
    plain = "".join(
        one for one in unicodedata.normalize("NFKD", event_name.replace("ß", "ss")) if not unicodedata.combining(one)
    )
    if any(one.isalnum() and not one.isascii() for one in plain):
        return None
    name = "_".join(word.lower() for word in _WORD.findall(plain))[:63].rstrip("_")
    return name if NAME.fullmatch(name) else None


def fqn(domain: str, name: str) -> str:
    """What the product of two folders is called: ``domain.name``, with one dot whatever the folders are called."""
    return f"{_part_of_fqn(domain)}.{_part_of_fqn(name)}"


def parts(fqn: str) -> tuple[str, str]:
    """Domain and product of a name: the namespace in Iceberg, the labels in Prometheus."""
    domain, _, name = fqn.partition(".")
    return domain, name


def asset_path(fqn: str) -> tuple[str, str]:
    """A product's asset key in Dagster, which makes other names of it."""
    domain, name = parts(fqn)
    return location(domain), location(name)


def is_in(domain: str, fqn: str) -> bool:
    """Whether a product is in the domain of this folder."""
    return parts(fqn)[0] == _part_of_fqn(domain)


def asset_owner(username: str) -> str:
    """An owner as Dagster takes one: an address, or else a team."""
    return username if _ADDRESS.fullmatch(username) else f"team:{tag(username)}"


def tag(text: str) -> str:
    """A key of a tag in Dagster."""
    return _named(text, lambda one: bool(_TAG.fullmatch(one) and not _MAPPED.search(one)), 63)


def check(identity: str) -> str:
    """The id of a rule or of a service level as the name of a check: letters, digits and underscores."""
    parts = re.split(r"([.:])", identity)
    if all(_PART.fullmatch(part) for part in parts[::2]) and len(identity) < _LONGEST_CHECK:
        return "".join({".": "__", ":": "___"}.get(part, part) for part in parts)
    # Four underscores: more than any name above has in a row.
    slug = re.sub(r"[^A-Za-z0-9]+", "_", identity).strip("_")[: _LONGEST_CHECK - _DIGITS - 4]
    return f"{slug}____{_digest(identity)}"


def location(domain: str) -> str:
    """A domain's code location, its group of assets, a part of their keys; any folder's name goes in."""
    if NAME.fullmatch(domain):
        return domain
    # A capital, which no name has.
    return f"X_{re.sub('[^a-z0-9]+', '_', domain.lower())[:40]}_{_digest(domain)}"


def pool(domain: str, product: str) -> str:
    """The pool of a product's steps: one for each product of all domains."""
    return f"{location(domain)}/{location(product)}"


def op(domain: str, product: str, step: str) -> str:
    """The op that does a step of a product."""
    return f"{location(domain)}__{location(product)}__{step}"


def person(username: str) -> str:
    """An owner or a member of a team in OpenLineage."""
    return f"user:{username}"


def _part_of_fqn(folder: str) -> str:
    """A folder's name as one part of a product's: text that can be printed and stored, without a dot."""
    return "".join(one if one.isprintable() and one not in ".%" else _escaped(one) for one in folder)


def _escaped(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogateescape"))


def _named(text: str, is_taken: Callable[[str], bool], longest: int) -> str:
    if is_taken(text):
        return text
    slug = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[: longest - _DIGITS - 1]
    return f"{slug}.{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
