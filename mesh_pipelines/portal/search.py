"""Finding products by what their contracts say of them, typing errors included; pure.

An inverted index over words was preferred to scanning texts: a thousand products have some thousand different words,
and comparing the asked word with each of those takes two milliseconds. Distances are optimal string alignment (Damerau
1964, restricted to one transposition a place), since a swapped pair is one typing error and not two.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz import process
from rapidfuzz.distance import OSA

from mesh_pipelines.contract.model import DataProduct, all_fields

_WORD = re.compile(r"[^\W_]+")
# What a match is worth by where it was found, and by how it fits.
_NAME, _FIELD, _TAG, _PERSON, _TEXT = 10.0, 6.0, 5.0, 4.0, 1.0
_EXACT, _PREFIX, _INSIDE, _MISSPELT = 1.0, 0.8, 0.5, 0.4
_LONGEST_QUERY = 200


@dataclass(frozen=True)
class Hit:
    """A product that was found, how well, and where: ``name``, ``field tailnum``, ``description``, ..."""

    product: str
    score: float
    where: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    product: str
    where: str
    weight: float


class Index:
    """The words of many products' contracts and where they stand."""

    def __init__(self, products: Iterable[DataProduct]) -> None:
        self._places: dict[str, set[_Place]] = defaultdict(set)
        for product in products:
            for where, weight, text in _texts(product):
                place = _Place(product.fqn, where, weight)
                for word in _words(text):
                    self._places[word].add(place)
        self._words = list(self._places)

    def search(self, query: str) -> list[Hit]:
        """The products in which every word of the query was found, best first; all of them for a query of none."""
        words = dict.fromkeys(tuple(_WORD.findall(token)) for token in query[:_LONGEST_QUERY].lower().split())
        found: list[Mapping[str, list[dict[str, float]]]] = []
        within: Collection[str] | None = None
        for parts in filter(None, words):
            found.append(self._compound(parts, within))
            within = found[-1].keys()
        hits = [_hit(product, [places for one in found for places in one[product]]) for product in within or ()]
        return sorted(hits, key=lambda hit: (-hit.score, hit.product))

    def _compound(self, parts: Sequence[str], within: Collection[str] | None) -> Mapping[str, list[dict[str, float]]]:
        """By product: where each part was found, or else all of it in one, since short parts may have no error."""
        alike = {part: list(self._alike(part)) for part in parts}
        found: dict[str, Mapping[str, dict[str, float]]] = {}
        products = within
        # The rarest first: the others are then looked for in few products.
        for part in sorted(alike, key=lambda part: sum(len(self._places[known]) for known, _ in alike[part])):
            found[part] = self._found(alike[part], products)
            products = found[part].keys()
        whole = self._found(self._alike("".join(parts)), within) if len(parts) > 1 else {}
        return {product: [places] for product, places in whole.items()} | {
            product: [found[part][product] for part in alike] for product in products or ()
        }

    def _found(
        self, alike: Iterable[tuple[str, float]], within: Collection[str] | None
    ) -> Mapping[str, dict[str, float]]:
        """By product, of those given: where one of the words was found, and what that is worth."""
        worth: dict[str, dict[str, float]] = defaultdict(dict)
        for known, fit in alike:
            for place in self._places[known]:
                if within is None or place.product in within:
                    places = worth[place.product]
                    places[place.where] = max(places.get(place.where, 0.0), place.weight * fit)
        return worth

    def _alike(self, word: str) -> Iterator[tuple[str, float]]:
        """Known words that the asked one may mean, each with how well it fits."""
        allowed = 0 if len(word) < 4 else 1 if len(word) < 8 else 2
        for known in self._words:
            if known == word:
                yield known, _EXACT
            elif known.startswith(word):
                yield known, _PREFIX
            elif len(word) >= 3 and word in known:
                yield known, _INSIDE
        if allowed:
            near = process.extract(word, self._words, scorer=OSA.distance, score_cutoff=allowed, limit=None)
            for known, distance, _ in near:
                if distance:
                    yield known, _MISSPELT / distance


def _hit(product: str, found: list[dict[str, float]]) -> Hit:
    best = sum(max(places.values()) for places in found)
    ranked = sorted(
        {where: worth for places in found for where, worth in places.items()}.items(), key=lambda one: -one[1]
    )
    return Hit(product, best, tuple(where for where, _ in ranked[:3]))


def _words(text: str) -> Iterator[str]:
    """The words of a text; of a compound name also all of it in one, as it is typed by those who recall it so."""
    for token in text.lower().split():
        parts = _WORD.findall(token)
        yield from parts
        if len(parts) > 1:
            yield "".join(parts)


def _texts(product: DataProduct) -> Iterator[tuple[str, float, str]]:
    yield "name", _NAME, product.name
    yield "domain", _NAME, product.domain
    for tag in product.tags:
        yield f"tag {tag}", _TAG, tag
    for person in (product.owner, product.about.team_name, *product.team):
        yield "owner" if person == product.owner else "team", _PERSON, person
    for name, field in all_fields(product.fields):
        yield f"field {name}", _FIELD, name
        if field.physical_name:
            yield f"field {name}", _FIELD, field.physical_name
        yield f"field {name}", _TEXT, field.description
        for tag in field.tags:
            yield f"tag {tag} of {name}", _TAG, tag
        if field.classification != "public":
            yield f"{field.classification} field {name}", _TAG, field.classification
    for text in (product.about.purpose, product.about.usage, product.about.limitations):
        yield "description", _TEXT, text
    yield "kind", _TEXT, f"{product.alignment} {product.event_type} {product.status}"
