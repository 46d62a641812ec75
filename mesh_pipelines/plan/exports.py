"""A product's contract as a plain document of the Open Data Contract Standard, for tools that know no mesh.

Its text is the contract's, with comments and ``mesh.*`` settings, which are custom properties to others. What such
tools ask for and a contract of the mesh need not say is put in: the topic as the object's physical name, and where that
is.
"""

from __future__ import annotations

from typing import Any

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.contract_file import contract_file
from mesh_pipelines.contract.read.load import files_of
from mesh_pipelines.plan.imports.bring import put_first
from mesh_pipelines.plan.imports.text import dump, load, plain
from mesh_pipelines.settings import Settings


def exported(settings: Settings, product: DataProduct) -> str:
    """The text of the document.

    Raises:
        ContractInvalid: the contract's file cannot be read, or has changed meanwhile.
    """
    [document] = load(files_of(product).contract, contract_file(product.folder).name)
    document["status"] = product.status
    [described] = document["schema"]
    if product.stream:
        put_first(described, "physicalType", "topic")
        put_first(described, "physicalName", plain(product.stream.name))
        if not document.get("servers"):
            document["servers"] = plain([_server(settings, product.stream.wire_format)])
    return dump(document)


def _server(settings: Settings, wire_format: str) -> dict[str, Any]:
    return {"server": "stream", "type": "kafka", "host": settings.brokers, "format": wire_format}
