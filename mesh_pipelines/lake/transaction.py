"""pyiceberg's transaction, which looks at the metadata it would commit without building it again each time."""

from __future__ import annotations

from pyiceberg.table import Table
from pyiceberg.table import Transaction as IcebergTransaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableUpdate


class Transaction(IcebergTransaction):
    """A transaction whose metadata is made once for what is staged.

    pyiceberg applies all updates at each look, some fifteen in one append and two for each snapshot that is expired,
    and copies the metadata with all its snapshots. Nobody changes what is looked at, so the copy serves nobody.
    """

    def __init__(self, table: Table, autocommit: bool = False) -> None:
        super().__init__(table, autocommit)
        self._made_of: tuple[TableMetadata, tuple[TableUpdate, ...]] = (table.metadata, ())
        self._made = table.metadata

    @property
    def table_metadata(self) -> TableMetadata:
        """The table's metadata with all that is staged."""
        base, updates = self._made_of
        if base is not self._table.metadata or updates is not self._updates:
            self._made_of, self._made = (self._table.metadata, self._updates), super().table_metadata
        return self._made
