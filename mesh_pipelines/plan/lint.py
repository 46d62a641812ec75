"""Everything that can be said of contracts without a service: what they break, and the suites that belong to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mesh_pipelines.contract.model import TRANSFORM, DataProduct, RuleKind
from mesh_pipelines.contract.read.contract_file import CONTRACT, contract_file
from mesh_pipelines.contract.read.plain_file import NotPlain, write_plain
from mesh_pipelines.errors import ContractInvalid, Fault, MeshError, TransformInvalid
from mesh_pipelines.gx.suite import suite_file, suite_text
from mesh_pipelines.gx.validate import check_expectation, load
from mesh_pipelines.pipeline import transform
from mesh_pipelines.plan.bind import Binder
from mesh_pipelines.plan.bound_faults import rule_faults, transform_faults
from mesh_pipelines.plan.declassified import declassified_faults
from mesh_pipelines.platform import Platform, ordered
from mesh_pipelines.rules.compile import compile_product
from mesh_pipelines.worker.child import narrowed
from mesh_pipelines.worker.pool import WorkerLost, guarded

if TYPE_CHECKING:
    from mesh_pipelines.rules.compile import CompiledRules


# The rules that an author writes as SQL.
_WRITTEN = (RuleKind.SQL, RuleKind.EXPECTATION)
# Seconds of CPU to check all the SQL of one product, and those that loading what it takes may need beside them.
_PRODUCT_S = 4
_LOADING_S = 11


@dataclass(frozen=True)
class Linted:
    """One contract: its number of rules, and its faults (none where it is sound).

    ``not_checked`` is what it promises and nothing here checks.
    ``unbound`` are its inputs whose contracts have faults: SQL that reads them could not be checked against them.
    """

    product: str
    rules: int
    faults: tuple[Fault, ...] = ()
    unbound: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()


def lint(platform: Platform, names: Iterable[str] = (), strays: Iterable[Path] = ()) -> list[Linted]:
    """Check the named contracts (default: all), offline: document, policies, rules, expectations, transform.

    ``strays`` are contracts in no product's folder, each a fault of its own.

    Raises:
        UnknownProduct: a name that no contract declares.
    """
    wanted = set(names)
    for name in wanted:
        platform.proposal(name)
    binder = Binder(platform.proposed)
    found = [Linted(name, 0, error.faults) for name, error in platform.broken.items()]
    fix = f"put it in a folder DOMAIN/PRODUCT, as {CONTRACT}"
    found += [Linted(file.name, 0, (Fault(file, 0, "", "is in no product's folder", fix),)) for file in strays]
    found += [
        Linted(
            product.fqn,
            sum(rule.kind is not RuleKind.NOT_CHECKED for rule in product.rules),
            tuple(faults_of(binder, product)),
            unbound_inputs(platform, product),
            tuple(map(str, product.not_checked)),
        )
        for product in ordered(platform.proposed)
        if not wanted or product.fqn in wanted
    ]
    return sorted((one for one in found if not wanted or one.product in wanted), key=lambda one: one.product)


def refusal(binder: Binder, product: DataProduct) -> MeshError | None:
    """What ``lint`` says of a product, as the error that refuses it; None where it is sound."""
    faults = tuple(faults_of(binder, product))
    if not faults or any(fault.file.name != TRANSFORM for fault in faults):
        return ContractInvalid(product.fqn, faults) if faults else None
    listed = "\n".join(f"  {fault}" for fault in faults)
    return TransformInvalid(f"{product.fqn}: its transform cannot run\n{listed}", next_step="mesh lint")


def unbound_inputs(platform: Platform, product: DataProduct) -> tuple[str, ...]:
    """The inputs of a product that have no sound contract, so that nothing can be bound against them."""
    return tuple(name for name in product.inputs if name not in platform.proposed)


def write_suites(platform: Platform) -> list[str]:
    """Write the expectation suites that are not up to date; gives the products they belong to."""
    written: list[str] = []
    for product in ordered(platform.proposed):
        text, file = suite_text(product), suite_file(product)
        if file.is_symlink() or not file.exists() or file.read_text(encoding="utf-8") != text:
            try:
                write_plain(file, text)
            except NotPlain as error:
                fault = Fault(file, 0, "", error.what, "put the file itself there")
                raise ContractInvalid(product.fqn, (fault,)) from error
            written.append(product.fqn)
    return written


def faults_of(binder: Binder, product: DataProduct) -> list[Fault]:
    """The faults of a sound document; what its author wrote as SQL is read and bound in a worker."""
    if product.transform is None and all(rule.kind not in _WRITTEN for rule in product.rules):
        return _faults_of(binder, product)
    needed = {name: binder.products[name] for name in (product.fqn, *product.inputs) if name in binder.products}
    try:
        return guarded(faults_by_kept_binder, needed, product, cpu=_PRODUCT_S + _LOADING_S)
    except WorkerLost as error:
        file = product.folder / TRANSFORM if product.transform else contract_file(product.folder)
        return [Fault(file, 0, "", f"its SQL cannot be checked: it {error}", "write it with less nesting")]


def faults_by_kept_binder(products: Mapping[str, DataProduct], product: DataProduct) -> list[Fault]:
    """The faults of a product beside these, found in this process by a database that is kept from one to the next."""
    binder = _kept_binder()
    binder.products = products
    if any(rule.kind is RuleKind.EXPECTATION for rule in product.rules):
        load()
    with narrowed(_PRODUCT_S):
        return _faults_of(binder, product)


@cache
def _kept_binder() -> Binder:
    return Binder({})


def _faults_of(binder: Binder, product: DataProduct) -> list[Fault]:
    try:
        compiled = compile_product(product)
    except ContractInvalid as error:
        return sorted([*error.faults, *_expectations(product), *_transform(binder, product)])
    return sorted([*_queries(binder, product, compiled), *_expectations(product), *_transform(binder, product)])


def _queries(binder: Binder, product: DataProduct, compiled: CompiledRules) -> list[Fault]:
    if not any(one.rule.kind in _WRITTEN for one in compiled.rules):
        return []

    return rule_faults(binder, product, compiled.rules)


def _expectations(product: DataProduct) -> list[Fault]:
    written = [rule for rule in product.rules if rule.kind is RuleKind.EXPECTATION]
    if not written:
        return []
    return [
        Fault(contract_file(product.folder), rule.line, f"rule {rule.id}", problem, "fix its type or kwargs")
        for rule in written
        if (problem := check_expectation(rule))
    ]


def _transform(binder: Binder, product: DataProduct) -> list[Fault]:
    if product.transform is None:
        return []
    try:
        select = transform.select(product)
    except TransformInvalid as error:
        problem = error.message.removeprefix(f"{product.fqn}: {TRANSFORM}: ")
        return [Fault(product.folder / TRANSFORM, 0, "", problem, error.next_step or "fix the SQL")]
    if not select.names <= binder.products.keys():
        return []

    inputs = {name: binder.products[name] for name in product.inputs if name in binder.products}
    return transform_faults(binder, product, select) or list(declassified_faults(product, inputs))
