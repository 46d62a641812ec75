"""What a run needs to have imported, imported once by the process that runs are forked from.

All modules that steps are made of, since they import their libraries when they first need them; without those of Great
Expectations, which cost more than all others together and serve few products.
"""

from __future__ import annotations

import importlib
import pkgutil

import mesh_pipelines

_LAYERS = ("contract", "quality", "lake", "streams", "steps")
_OF_GREAT_EXPECTATIONS = ("gx_engine", "validate", "expectations")
_LIBRARIES = (
    "confluent_kafka.schema_registry",
    "dagster._cli.api",
    # What the registry's client makes its requests by; it imports that with its first client.
    "httpcore2",
    "mesh_pipelines.orchestration.definitions",
    "mesh_pipelines.orchestration.run_storage",
    "pyiceberg.catalog.sql",
    "pyiceberg.io.pyarrow",
)

for layer in _LAYERS:
    for module in pkgutil.iter_modules([f"{mesh_pipelines.__path__[0]}/{layer}"]):
        if not module.name.endswith(_OF_GREAT_EXPECTATIONS):
            importlib.import_module(f"mesh_pipelines.{layer}.{module.name}")
for library in _LIBRARIES:
    importlib.import_module(library)
