"""Everything that can be said of contracts without a service: what they break, and the suites that belong to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mesh_pipelines.contract.model import DataProduct, RuleKind
from mesh_pipelines.contract.read.load import CONTRACT, TRANSFORM
from mesh_pipelines.errors import ContractInvalid, Fault, TransformInvalid
from mesh_pipelines.pipeline import transform
from mesh_pipelines.platform import Platform, ordered


@dataclass(frozen=True)
class Linted:
    """One contract: its number of rules, and its faults (none where it is sound)."""

    product: str
    rules: int
    faults: tuple[Fault, ...] = ()


def lint(platform: Platform, names: Iterable[str] = ()) -> list[Linted]:
    """Check the named contracts (default: all), offline: document, policies, rules, expectations, transform.

    Raises:
        UnknownProduct: a name that no contract declares.
    """
    wanted = set(names)
    for name in wanted:
        platform.proposal(name)
    found = [Linted(name, 0, error.faults) for name, error in platform.broken.items()]
    found += [_lint(platform, product) for product in ordered(platform.proposed)]
    return sorted((one for one in found if not wanted or one.product in wanted), key=lambda one: one.product)


def write_suites(platform: Platform) -> list[str]:
    """Write the expectation suites that are not up to date; gives the products they belong to."""
    from mesh_pipelines.gx.suite import suite_file, suite_text

    written: list[str] = []
    for product in ordered(platform.proposed):
        text, file = suite_text(product), suite_file(product)
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            written.append(product.fqn)
    return written


def _lint(platform: Platform, product: DataProduct) -> Linted:
    from mesh_pipelines.rules.compile import compile_product

    faults: list[Fault] = []
    try:
        compile_product(product)
    except ContractInvalid as error:
        faults += error.faults
    faults += [*_expectations(product), *_transform(platform, product)]
    return Linted(product.fqn, len(product.rules), tuple(sorted(faults)))


def _expectations(product: DataProduct) -> list[Fault]:
    written = [rule for rule in product.rules if rule.kind is RuleKind.EXPECTATION]
    if not written:
        return []
    from mesh_pipelines.gx.validate import check_expectation

    return [
        Fault(product.folder / CONTRACT, rule.line, f"rule {rule.id}", problem, "mend its type or kwargs")
        for rule in written
        if (problem := check_expectation(rule))
    ]


def _transform(platform: Platform, product: DataProduct) -> list[Fault]:
    if product.transform is None:
        return []
    inputs = {name: platform.proposed[name] for name in product.inputs if name in platform.proposed}
    try:
        transform.lineage(product, inputs)
    except TransformInvalid as error:
        problem = error.message.removeprefix(f"{product.fqn}: {TRANSFORM}: ")
        return [Fault(product.folder / TRANSFORM, 0, "", problem, error.next_step or "mend the SQL")]
    return []
