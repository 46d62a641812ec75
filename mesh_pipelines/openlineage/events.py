"""What a step did, as OpenLineage run events.

Datasets are the topic, and a product's log, candidate and published table under the names SQL and the command line
know them by (``domain.product``), in the namespace of the mesh. Physical paths were ruled out as names: a product is a
position over several tables, and which files hold it changes with every compaction. Events repeat what the contract
says, so that each can be read by itself.

Nothing of the data goes out: counts and names only, and of an error that may quote values only its code, where a field
of the product is not public.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version as installed
from typing import Any, TypeVar
from urllib.parse import quote

from openlineage.client import facet_v2 as facets
from openlineage.client.constants import __version__ as adapter_version
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.generated.base import BaseFacet
from openlineage.client.serde import Serde

from mesh_pipelines.contract.column_lineage import Influence, Lineage, SourceColumn, lineage
from mesh_pipelines.contract.model import DataProduct, Field, FieldType, Kind, OnFailure
from mesh_pipelines.contract.names import person
from mesh_pipelines.contract.telling import may_tell
from mesh_pipelines.contract.types import duckdb_type
from mesh_pipelines.errors import MeshError, TransformInvalid, Undecodable
from mesh_pipelines.openlineage.facts import Done, Outcome, RunOf, Step, StepRun
from mesh_pipelines.positions import Position
from mesh_pipelines.rules.results import Audit, State
from mesh_pipelines.settings import Settings

F = TypeVar("F", bound=BaseFacet)

_ENGINE = "mesh-pipelines"
_SUBTYPES: Mapping[Influence, str] = {
    Influence.FILTER: "FILTER",
    Influence.JOIN: "JOIN",
    Influence.GROUP: "GROUP_BY",
    Influence.SORT: "SORT",
}
# What an error of these quotes may come from the data.
_QUOTING = (TransformInvalid, Undecodable)


class Events:
    """The events of one mesh, whose settings and products these are."""

    def __init__(self, settings: Settings, products: Mapping[str, DataProduct]) -> None:
        self._settings = settings
        self._products = products
        self._producer = f"urn:{_ENGINE}:{installed(_ENGINE)}"

    def event(
        self, outcome: Outcome, of: StepRun, done: Done | None = None, error: BaseException | None = None
    ) -> bytes:
        """One event as JSON."""
        known, step, product = done or Done(), of.step, of.product
        event = RunEvent(
            eventTime=datetime.now(UTC).isoformat(timespec="milliseconds"),
            producer=self._producer,
            eventType=RunState(outcome),
            run=Run(of.run.run_id, self._run_facets(product, of.parent, error)),
            job=Job(self._settings.openlineage_namespace, of.run.job, self._job_facets(step, product)),
            inputs=self._inputs(step, product, known),
            outputs=self._outputs(step, product, known),
        )
        return Serde.to_json(event).encode()

    def _run_facets(self, product: DataProduct, parent: RunOf | None, error: BaseException | None) -> dict[str, Any]:
        engine = self._facet(
            facets.processing_engine_run.ProcessingEngineRunFacet,
            version=installed(_ENGINE),
            name=_ENGINE,
            openlineageAdapterVersion=adapter_version,
        )
        found: dict[str, Any] = {"processing_engine": engine}
        if parent:
            found["parent"] = self._facet(
                facets.parent_run.ParentRunFacet,
                run=facets.parent_run.Run(parent.run_id),
                job=facets.parent_run.Job(self._settings.openlineage_namespace, parent.job),
            )
        if error:
            found["errorMessage"] = self._facet(
                facets.error_message_run.ErrorMessageRunFacet,
                message=self._message(product, error),
                programmingLanguage="python",
            )
        return found

    def _message(self, product: DataProduct, error: BaseException) -> str:
        code = f"{error.code} " if isinstance(error, MeshError) else ""
        if isinstance(error, MeshError) and not isinstance(error, _QUOTING):
            return code + str(error)
        shown = [product, *(self._products[name] for name in product.inputs if name in self._products)]
        public = may_tell(one for each in shown for one in each.fields)
        return code + (str(error) if public else type(error).__name__)

    def _job_facets(self, step: Step, product: DataProduct) -> dict[str, Any]:
        kind = self._facet(
            facets.job_type_job.JobTypeJobFacet, processingType="BATCH", integration="MESH", jobType=step.upper()
        )
        found: dict[str, Any] = {"jobType": kind}
        if step == "transform" and product.transform:
            found["sql"] = self._facet(facets.sql_job.SQLJobFacet, query=product.transform.sql, dialect="duckdb")
        return found

    def _inputs(self, step: Step, product: DataProduct, done: Done) -> list[InputDataset]:
        match step:
            case "land":
                return [self._topic(product, done.position)]
            case "snapshot":
                return [self._input(product, ".log", _offsets(done.position))]
            case "transform":
                return [
                    self._input(self._products[name], "", str(done.read[name]) if name in done.read else None)
                    for name in product.inputs
                    if name in self._products
                ]
            case "audit":
                checked = self._assertions(product, done.audit) if done.audit else None
                return [self._input(product, ".candidate", _number(done), checked)]
            case "publish":
                return [self._input(product, ".candidate", _number(done))]

    def _outputs(self, step: Step, product: DataProduct, done: Done) -> list[OutputDataset]:
        match step:
            case "land":
                part, version = ".log", _offsets(done.position)
            case "snapshot" | "transform":
                part, version = ".candidate", _number(done)
            case "audit":
                return []
            case "publish":
                part, version = "", _number(done)
        found: dict[str, Any] = {**self._table(product, version), "columnLineage": self._columns(step, product)}
        statistics: dict[str, Any] = {}
        if done.rows is not None:
            statistics["outputStatistics"] = self._facet(
                facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
                rowCount=done.rows,
                size=done.size,
            )
        return [OutputDataset(*self._named(product, part), outputFacets=statistics, facets=found)]

    def _topic(self, product: DataProduct, position: Position | None) -> InputDataset:
        namespace, name = self._topic_name(product)
        described = self._described(product) | self._source(namespace, namespace) | self._version(_offsets(position))
        return InputDataset(namespace, name, facets=described)

    def _topic_name(self, product: DataProduct) -> tuple[str, str]:
        assert product.topic is not None
        return f"kafka://{self._settings.brokers.split(',')[0].strip()}", product.topic.name

    def _input(
        self, product: DataProduct, part: str, version: str | None, checked: BaseFacet | None = None
    ) -> InputDataset:
        judged: dict[str, Any] = {"dataQualityAssertions": checked} if checked else {}
        return InputDataset(*self._named(product, part), inputFacets=judged, facets=self._table(product, version))

    def _named(self, product: DataProduct, part: str) -> tuple[str, str]:
        return self._settings.openlineage_namespace, f"{product.fqn}{part}"

    def _table(self, product: DataProduct, version: str | None) -> dict[str, Any]:
        warehouse = quote(self._settings.warehouse_uri, safe=":/@")
        return self._described(product) | self._source("iceberg", warehouse) | self._version(version)

    def _described(self, product: DataProduct) -> dict[str, Any]:
        """What the contract says of the product, wherever its rows are."""
        owners = [facets.ownership_dataset.Owner(person(product.owner), "OWNER")]
        owners += [
            facets.ownership_dataset.Owner(person(name), "MEMBER") for name in product.team if name != product.owner
        ]
        found: dict[str, Any] = {
            "schema": self._facet(
                facets.schema_dataset.SchemaDatasetFacet, fields=[_field(one) for one in product.fields]
            ),
            "ownership": self._facet(facets.ownership_dataset.OwnershipDatasetFacet, owners=owners),
        }
        if product.about.text:
            found["documentation"] = self._facet(
                facets.documentation_dataset.DocumentationDatasetFacet,
                description=product.about.text,
                contentType="text/markdown",
            )
        return found

    def _source(self, name: str, uri: str) -> dict[str, Any]:
        return {"dataSource": self._facet(facets.datasource_dataset.DatasourceDatasetFacet, name=name, uri=uri)}

    def _version(self, version: str | None) -> dict[str, Any]:
        if version is None:
            return {}
        kind = facets.dataset_version_dataset.DatasetVersionDatasetFacet
        return {"version": self._facet(kind, datasetVersion=version)}

    def _columns(self, step: Step, product: DataProduct) -> BaseFacet:
        """Column lineage: from the inputs of a transform, else from the same fields of what the step read."""
        column = facets.column_lineage_dataset
        if step == "transform" and product.transform:
            traced = lineage(product, {name: self._products[name] for name in product.inputs if name in self._products})
            named = {one: self._named(self._products[one], "") for one in product.inputs if one in self._products}
        else:
            traced = Lineage({one.name: (SourceColumn(product.fqn, one.name),) for one in product.fields})
            before = ".log" if step == "snapshot" else ".candidate"
            named = {product.fqn: self._topic_name(product) if step == "land" else self._named(product, before)}
        subtype = None if step == "transform" else "IDENTITY"
        fields = {
            name: column.Fields(
                [
                    column.InputField(*named[one.product], one.column, [column.Transformation("DIRECT", subtype)])
                    for one in sources
                ]
            )
            for name, sources in traced.fields.items()
            if sources is not None
        }
        deciding = [
            column.InputField(
                *named[one.product], one.column, [column.Transformation("INDIRECT", _SUBTYPES[influence])]
            )
            for influence, sources in (traced.influences or {}).items()
            for one in sources
        ]
        return self._facet(column.ColumnLineageDatasetFacet, fields=fields, dataset=deciding)

    def _assertions(self, product: DataProduct, audit: Audit) -> BaseFacet:
        rules = {rule.id: rule for rule in product.rules}
        asserted = facets.data_quality_assertions_dataset
        return self._facet(
            asserted.DataQualityAssertionsDatasetFacet,
            assertions=[
                asserted.Assertion(
                    assertion=result.check,
                    success=result.state in (State.PASS, State.VACUOUS),
                    column=rules[result.rule].fields[0]
                    if result.rule in rules and len(rules[result.rule].fields) == 1
                    else None,
                    severity="warn" if result.on_failure == OnFailure.WARN else "error",
                    name=result.rule,
                    expected=result.threshold,
                    actual=None if result.measured is None else str(result.measured),
                )
                for result in audit.results
            ],
        )

    def _facet(self, kind: Callable[..., F], **values: Any) -> F:
        return kind(producer=self._producer, **values)


def _number(done: Done) -> str | None:
    return None if done.version is None else str(done.version)


def _offsets(position: Position | None) -> str | None:
    """A position as the version of what was read to it: ``partition:next offset``, after the topic's incarnation."""
    if position is None:
        return None
    offsets = ",".join(f"{number}:{offset.next_offset}" for number, offset in sorted(position.partitions.items()))
    return f"{position.topic_id}/{offsets}"


def _field(one: Field) -> facets.schema_dataset.SchemaDatasetFacetFields:
    return facets.schema_dataset.SchemaDatasetFacetFields(
        name=one.name,
        type=duckdb_type(one.type),
        description=one.description or None,
        fields=[_field(inner) for inner in _inner(one.type)],
    )


def _inner(kind: FieldType) -> tuple[Field, ...]:
    """The fields in a struct, or in a list of structs."""
    if kind.kind is Kind.LIST and kind.items:
        return _inner(kind.items)
    return kind.fields
