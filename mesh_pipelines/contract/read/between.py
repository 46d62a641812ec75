"""What is wrong with contracts beside what is around them: unknown inputs, cycles, topics of two or of the platform.

It is asked of files only: a contract that was applied stays readable, whatever is refused since.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from mesh_pipelines.contract.misspelt import did_you_mean
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.contract_file import contract_file
from mesh_pipelines.errors import Fault


def faults_between(products: Mapping[str, DataProduct], broken: Set[str]) -> Iterator[tuple[str, Fault]]:
    """The faults among sound products, each with the name of the product it is a fault of.

    ``broken`` are products whose contract exists and is faulty: naming one as an input is not another fault.
    """
    for product in products.values():
        file = contract_file(product.folder)
        for name in product.inputs:
            if name not in products and name not in broken:
                others = [*products.keys() - {product.fqn}, *broken]
                fix = did_you_mean(name, others, "correct the name, or add that product's contract")
                yield product.fqn, _fault(file, f"no contract declares its input {name}", fix)
        if cycle := _cycle(products, product.fqn):
            path = " -> ".join(cycle)
            yield product.fqn, _fault(file, f"it depends on itself: {path}", "break the cycle")
    yield from _declassified(products)
    yield from _shared_topics(products)
    yield from _internal_topics(products)


def _declassified(products: Mapping[str, DataProduct]) -> Iterator[tuple[str, Fault]]:
    """Reasons for fields that need none: those of streams are computed from no other product's."""
    for product in products.values():
        for field in product.fields if product.transform is None else ():
            if field.declassified:
                problem = f"mesh.declassified of {field.name} is about fields computed from other products'"
                yield product.fqn, _fault(contract_file(product.folder), problem, "remove it")


# Kafka's own and its tools': offsets, transactions, schemas, metrics, settings of connectors and mirrors, journals.
_INTERNAL = re.compile(
    r"_.*|(.*[-._])?connect[-._](.*[-._])?(configs?|offsets?|status(es)?)|.*[-._]internal|kafkasql-.*|strimzi[-._].*",
    re.IGNORECASE,
)


def _internal_topics(products: Mapping[str, DataProduct]) -> Iterator[tuple[str, Fault]]:
    """Topics that belong to the broker or the tools around it; applied contracts are read without this check."""
    for product in products.values():
        # What a product is called by itself is no name that a tool would take.
        if product.topic and product.topic.name != product.fqn and _INTERNAL.fullmatch(product.topic.name):
            problem = f"mesh.topic must not be a topic of the platform's own, got {product.topic.name!r}"
            fix = "set mesh.topic to a topic of events; names that begin with _ are Kafka's and its tools'"
            yield product.fqn, _fault(contract_file(product.folder), problem, fix)


def _shared_topics(products: Mapping[str, DataProduct]) -> Iterator[tuple[str, Fault]]:
    topics: dict[str, list[DataProduct]] = {}
    for product in products.values():
        if product.topic:
            # Kafka has no two topics whose names differ in dots and underscores only.
            topics.setdefault(product.topic.name.replace(".", "_"), []).append(product)
    for sharing in topics.values():
        for product in sharing if len(sharing) > 1 else ():
            others = ", ".join(one.fqn for one in sharing if one is not product)
            named = product.topic.name if product.topic else ""
            same = all(one.topic and one.topic.name == named for one in sharing)
            how = "also" if same else "to Kafka, which takes dots and underscores for the same, also"
            problem = f"its topic {named} is {how} the topic of {others}"
            yield product.fqn, _fault(contract_file(product.folder), problem, "set mesh.topic to give each its own")


def _cycle(products: Mapping[str, DataProduct], start: str) -> list[str]:
    """A shortest way from a product through inputs back to it; empty if there is none."""
    paths: list[list[str]] = [[start]]
    seen: set[str] = set()
    for path in paths:
        product = products.get(path[-1])
        for name in product.inputs if product else ():
            if name == start:
                return [*path, start]
            if name not in seen:
                seen.add(name)
                paths.append([*path, name])
    return []


def _fault(file: Path, problem: str, fix: str) -> Fault:
    return Fault(file, 0, "customProperties", problem, fix)
