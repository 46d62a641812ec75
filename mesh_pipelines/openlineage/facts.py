"""What is told of a step: whose run it is, and what is known when it ends. Needs no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.positions import Position
from mesh_pipelines.rules.results import Audit

Step = Literal["land", "snapshot", "transform", "audit", "publish"]
Outcome = Literal["START", "COMPLETE", "FAIL", "ABORT"]


@dataclass(frozen=True)
class RunOf:
    """A run by its id, and the job it is a run of."""

    run_id: str
    job: str


@dataclass(frozen=True)
class StepRun:
    """One run of a step of a product, and the run that it is a part of."""

    step: Step
    product: DataProduct
    run: RunOf
    parent: RunOf | None


@dataclass(frozen=True)
class Done:
    """What is known of a step when it ends: rows and bytes written, versions of what was read and written.

    ``read`` has the versions of a derived product's inputs. Whatever is None is not known, and not told.
    """

    rows: int | None = None
    size: int | None = None
    version: int | None = None
    position: Position | None = None
    read: Mapping[str, int] = field(default_factory=dict[str, int])
    audit: Audit | None = None
