"""How a product's existing tables follow its contract as it changes.

The log and, for keyed streams, its folded base keep every column the contract ever had under one Iceberg field id, so
a renamed or widened column reads right from files written before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.errors import ApplyRefused
from mesh_pipelines.lake.catalog import Kind
from mesh_pipelines.lake.files import default_properties
from mesh_pipelines.lake.product_tables import ProductTables
from mesh_pipelines.lake.tables import table_schema

if TYPE_CHECKING:
    from pyiceberg.table import Table


def plan_evolution(tables: ProductTables) -> list[str]:
    """What has to change in the existing tables' columns, one sentence a change.

    Raises:
        ApplyRefused: a change would lose data: a column gone, a type narrowed or replaced.
    """
    return [
        f"{kind}: {change}"
        for kind in _data_kinds(tables)
        for change in _column_changes(tables.product, kind, tables.load(kind))
    ]


def evolve(tables: ProductTables) -> None:
    """Carry out ``plan_evolution``: add, rename and widen columns, one commit a table."""
    product = tables.product
    for kind in _data_kinds(tables):
        table = tables.load(kind)
        if not _column_changes(product, kind, table):
            continue
        with table.transaction() as evolving:
            known = {column.name for column in table.schema().fields}
            with evolving.update_schema() as update:
                for field in product.fields:
                    former = next((name for name in field.former_columns if name in known), None)
                    if field.name not in known and former:
                        update.rename_column(former, field.name)
            known = {column.name for column in evolving.table_metadata.schema().fields}
            with evolving.update_schema() as update:
                update.union_by_name(table_schema(product, kind))
            added = [field for field in product.fields if field.name not in known]
            evolving.set_properties(default_properties(evolving.table_metadata.schema(), added))


def _data_kinds(tables: ProductTables) -> list[Kind]:
    missing = tables.missing()
    return [kind for kind in tables.kinds if kind in ("log", "base") and kind not in missing]


def _column_changes(product: DataProduct, kind: Kind, table: Table) -> list[str]:
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    have = schema_to_pyarrow(table.schema(), include_field_ids=False)
    want = table_schema(product, kind)
    own = {field.name for field in product.fields}
    changes = [f"add column {name}" for name in want.names if name not in have.names and name not in own]
    renamed: set[str] = set()
    refused: list[str] = []
    for field in product.fields:
        current = (
            field.name
            if field.name in have.names
            else next((name for name in field.former_columns if name in have.names), None)
        )
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
                refused.append(f"column {field.name} cannot change from {before} to {after}")
    gone = [name for name in have.names if name not in want.names and name not in renamed]
    refused += [f"column {name} is no longer in the contract; nobody could read its data" for name in gone]
    if refused:
        raise ApplyRefused(f"{product.fqn}: {'; '.join(refused)}", next_step="fix the contract")
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
