"""A product's tables: which it has, their columns, and how they follow the contract as it changes.

The log and, for keyed streams, its folded base keep every column the contract ever had under one Iceberg field id, so
a renamed or widened column reads right from files written before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from mesh_pipelines.audit.history import RESULT_SCHEMA
from mesh_pipelines.contract.envelope import BREAKS, DIGEST, GENERATION, KEY, OFFSET, OP, PARTITION, TIMESTAMP
from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.types import arrow_schema, log_schema
from mesh_pipelines.errors import ApplyRefused, TableOutdated
from mesh_pipelines.lake.catalog import Kind, Pinned, load, table_name
from mesh_pipelines.lake.commit import TABLE_PROPERTIES
from mesh_pipelines.lake.files import default_properties

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

BASE_ENVELOPE = (GENERATION, PARTITION, OFFSET, TIMESTAMP, KEY, OP)
# What a base's rows carry besides, so that a few of them are found and judged without reading the others.
BASE_INDEX = pa.schema([pa.field(DIGEST, pa.uuid()), pa.field(BREAKS, pa.int64())])
VERSIONS_SCHEMA = pa.schema(
    [
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("transition", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("candidate_id", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
    ]
)


def table_schema(product: DataProduct, kind: Kind) -> pa.Schema:
    """The table's columns as the contract has them now."""
    match kind:
        case "log":
            return log_schema(product)
        case "base" if not product.has_log:
            return arrow_schema(product)
        case "base":
            log = log_schema(product)
            return pa.schema([*(log.field(name) for name in BASE_ENVELOPE), *BASE_INDEX, *arrow_schema(product)])
        case "versions":
            return VERSIONS_SCHEMA
        case "checks":
            return RESULT_SCHEMA


def up_to_date(catalog: Catalog | Pinned, product: DataProduct, kind: Kind) -> Table:
    """The product's table as it is now, with all the columns it is read and written by.

    Raises:
        TableMissing: the product was not applied.
        TableOutdated: it was, but not since it has these columns.
    """
    table = load(catalog, product, kind)
    known = {column.name for column in table.schema().fields}
    lacking = [name for name in table_schema(product, kind).names if name not in known]
    if lacking:
        raise TableOutdated(
            f"{product.fqn}: its table {kind} lacks {', '.join(lacking)}; it was made before they were there",
            next_step="mesh apply",
        )
    return table


def kinds(product: DataProduct) -> tuple[Kind, ...]:
    """The tables the product has."""
    if not product.has_log:
        return ("base", "versions", "checks")
    if product.event_type.folds_by_key:
        return ("log", "base", "versions", "checks")
    return ("log", "versions", "checks")


def exists(catalog: Catalog, product: DataProduct) -> bool:
    """Whether all of the product's tables exist."""
    return not missing_tables(catalog, product)


def missing_tables(catalog: Catalog, product: DataProduct) -> list[str]:
    """The tables the product should have and does not."""
    return [kind for kind in kinds(product) if not catalog.table_exists(table_name(product, kind))]


def create_tables(catalog: Catalog, product: DataProduct) -> list[str]:
    """Create what is missing; gives the names of what was created."""
    missing: list[Kind] = [kind for kind in kinds(product) if not catalog.table_exists(table_name(product, kind))]
    if missing:
        _create_namespace(catalog, (product.domain,))
        _create_namespace(catalog, (product.domain, product.name))
    for kind in missing:
        catalog.create_table_if_not_exists(
            table_name(product, kind), schema=table_schema(product, kind), properties=dict(TABLE_PROPERTIES)
        )
    return list(missing)


def _create_namespace(catalog: Catalog, name: tuple[str, ...]) -> None:
    """Make sure that there is a namespace; an SQL catalog looks before it writes, and may lose a race to another."""
    from sqlalchemy.exc import IntegrityError

    try:
        catalog.create_namespace_if_not_exists(name)
    except IntegrityError:
        if not catalog.namespace_exists(name):
            raise


def plan_evolution(catalog: Catalog, product: DataProduct) -> list[str]:
    """What has to change in the existing tables' columns, one sentence a change.

    Raises:
        ApplyRefused: a change would lose data: a column gone, a type narrowed or replaced.
    """
    changes: list[str] = []
    for kind in _data_kinds(catalog, product):
        table = load(catalog, product, kind)
        changes += [f"{kind}: {change}" for change in _column_changes(product, kind, table)]
    return changes


def evolve(catalog: Catalog, product: DataProduct) -> None:
    """Carry out ``plan_evolution``: add, rename and widen columns, one commit a table."""
    for kind in _data_kinds(catalog, product):
        table = load(catalog, product, kind)
        if not _column_changes(product, kind, table):
            continue
        with table.transaction() as evolving:
            known = {column.name for column in table.schema().fields}
            with evolving.update_schema() as update:
                for field in product.fields:
                    former = next((alias for alias in field.aliases if alias in known), None)
                    if field.name not in known and former:
                        update.rename_column(former, field.name)
            known = {column.name for column in evolving.table_metadata.schema().fields}
            with evolving.update_schema() as update:
                update.union_by_name(table_schema(product, kind))
            added = [field for field in product.fields if field.name not in known]
            evolving.set_properties(default_properties(evolving.table_metadata.schema(), added))


def _data_kinds(catalog: Catalog, product: DataProduct) -> list[Kind]:
    return [
        kind for kind in kinds(product) if kind in ("log", "base") and catalog.table_exists(table_name(product, kind))
    ]


def _column_changes(product: DataProduct, kind: Kind, table: Table) -> list[str]:
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    have = schema_to_pyarrow(table.schema(), include_field_ids=False)
    want = table_schema(product, kind)
    own = {field.name for field in product.fields}
    changes = [f"add column {name}" for name in want.names if name not in have.names and name not in own]
    renamed: set[str] = set()
    refused: list[str] = []
    for field in product.fields:
        current = field.name if field.name in have.names else next((a for a in field.aliases if a in have.names), None)
        if current is None:
            changes.append(f"add column {field.name}")
            continue
        if current != field.name:
            renamed.add(current)
            changes.append(f"rename column {current} to {field.name}")
        before, after = have.field(current).type, want.field(field.name).type
        match _fits(before, after):
            case "same":
                pass
            case "widens":
                changes.append(f"change column {field.name} from {before} to {after}")
            case _:
                refused.append(f"column {field.name} cannot go from {before} to {after}")
    gone = [name for name in have.names if name not in want.names and name not in renamed]
    refused += [f"column {name} is no longer in the contract; its data would be out of reach" for name in gone]
    if refused:
        raise ApplyRefused(f"{product.fqn}: {'; '.join(refused)}", next_step="mend the contract")
    return changes


def _fits(before: pa.DataType, after: pa.DataType) -> str:
    before, after = _plain(before), _plain(after)
    if before.equals(after):
        return "same"
    if (pa.types.is_int32(before) and pa.types.is_int64(after)) or (
        pa.types.is_float32(before) and pa.types.is_float64(after)
    ):
        return "widens"
    if pa.types.is_decimal(before) and pa.types.is_decimal(after):
        return "widens" if before.scale == after.scale and before.precision < after.precision else "differs"
    if pa.types.is_struct(before) and pa.types.is_struct(after):
        kept = all(
            after.get_field_index(f.name) >= 0 and _fits(f.type, after.field(f.name).type) != "differs" for f in before
        )
        return "widens" if kept else "differs"
    if pa.types.is_list(before) and pa.types.is_list(after):
        return _fits(before.value_type, after.value_type)
    return "differs"


def _plain(data_type: pa.DataType) -> pa.DataType:
    """The type without Arrow's 32/64-bit offset variants, which a table does not tell apart."""
    if pa.types.is_large_string(data_type):
        return pa.string()
    if pa.types.is_large_binary(data_type):
        return pa.binary()
    if pa.types.is_large_list(data_type) or pa.types.is_list(data_type):
        return pa.list_(_plain(data_type.value_type))
    if pa.types.is_map(data_type):
        return pa.map_(_plain(data_type.key_type), _plain(data_type.item_type))
    if pa.types.is_struct(data_type):
        return pa.struct([pa.field(f.name, _plain(f.type)) for f in data_type])
    return data_type
