"""Fields that a derived product shows everybody, though they are computed from fields that not everybody may see.

A transform may well make something public of what is not: a count, an average over many. Nobody but its author can say
so, and so the contract has to: ``mesh.declassified`` on the field, with the reason, which is shown with the field. What
a query only filters, joins or groups by is part of no value, and is not asked for. Words of classification other than
``public`` have no order, so that none is lower than another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesh_pipelines.contract.column_lineage import SourceColumn, Sources, trace
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.contract_file import contract_file
from mesh_pipelines.errors import Fault

# Columns that a message names.
_NAMED = 3


def declassified_faults(product: DataProduct, inputs: Mapping[str, DataProduct]) -> Iterator[Fault]:
    """The public fields of a derived product that have something in them that is not, and no reason given.

    ``inputs`` are all of its inputs. A field whose sources are not known may have any column of them in it.
    """
    guarded = [
        SourceColumn(name, field.name)
        for name, source in sorted(inputs.items())
        for field in source.fields
        if not field.is_public
    ]
    asked = [field for field in product.fields if field.is_public and not field.declassified] if guarded else []
    if not asked:
        return
    sources = trace(product, inputs).fields
    for field in asked:
        found = sources[field.name]
        columns = tuple(one for one in (guarded if found is None else found) if one in guarded)
        if columns:
            problem = f"is public, and {_how(found, columns)}"
            fix = "classify it as they are, or say in mesh.declassified why everybody may see it"
            yield Fault(contract_file(product.folder), 0, f"field {field.name}", problem, fix)


def _how(found: Sources | None, columns: Sources) -> str:
    named = ", ".join(f"{one.product}.{one.column}" for one in columns[:_NAMED])
    more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
    are = "is" if len(columns) == 1 else "are"
    if found is None:
        return f"what it is computed from cannot be traced: {named}{more} of its inputs {are} not public"
    return f"is computed from {named}{more}, which {are} not"
