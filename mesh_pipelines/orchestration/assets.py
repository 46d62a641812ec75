"""One product as Dagster assets: stream -> log -> snapshot (audited) -> published.

The assets call the same steps as the command line and add what Dagster shows. Checks are inline in the snapshot: they
cannot be deselected, and a blocking one that fails ends the step before the published asset. That is for people to
see; what keeps an unaudited version from being published is the step itself, which asks the table for the verdict.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from mesh_pipelines.confidential import hide_in
from mesh_pipelines.contract import names
from mesh_pipelines.contract.model import NOT_COMPUTED, DataProduct, OnFailure
from mesh_pipelines.contract.objectives import Objective, freshness_window, objectives
from mesh_pipelines.contract.read.contract_file import contract_file
from mesh_pipelines.contract.types import duckdb_type
from mesh_pipelines.counted import counted
from mesh_pipelines.errors import ContractInvalid, MeshError, TransformInvalid
from mesh_pipelines.observe.status import statuses
from mesh_pipelines.observe.store.history import History
from mesh_pipelines.orchestration.health_check import health_result, health_spec
from mesh_pipelines.orchestration.prose import cell, code, prose
from mesh_pipelines.pipeline import transform
from mesh_pipelines.pipeline.lag import lag
from mesh_pipelines.pipeline.land import land
from mesh_pipelines.pipeline.level import Level, levels
from mesh_pipelines.pipeline.publish import publish
from mesh_pipelines.pipeline.report import within_run
from mesh_pipelines.pipeline.snapshot import Snapshot, snapshot
from mesh_pipelines.platform import Platform
from mesh_pipelines.positions import Position
from mesh_pipelines.rules.results import RuleResult, State
from mesh_pipelines.serve.door import Reader, examples

_TRANSIENT_RETRIES = 3
# Dagster takes no shorter window.
_SHORTEST_S = 60.0
# A run takes one product to its published version before it begins the next. Were all landed first and published last,
# events would wait for the other products of a run twice: before they are landed, and after.
_PRIORITY = {"land": 0, "snapshot": 1, "publish": 2}


def published_key(fqn: str) -> dg.AssetKey:
    """The key of a product's published asset: ``domain/product``."""
    return dg.AssetKey(names.asset_path(fqn))


def part_key(product: DataProduct, part: str) -> dg.AssetKey:
    """The key of one of a product's other assets: ``domain/product/stream``, ``log`` or ``snapshot``."""
    return dg.AssetKey([product.domain, product.name, part])


def product_assets(
    platform: Platform, product: DataProduct, unapplied: str | None = None
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """All assets of one product, in the order data takes; ``unapplied`` is what its file has that is not applied."""
    columns = _column_schema(product)
    taken, published = _snapshot(platform, product, columns), _published(platform, product, columns, unapplied)
    if product.topic is None:
        return [taken, published]
    return [_stream(product), _log(platform, product), taken, published]


def broken_asset(name: str, error: ContractInvalid) -> dg.AssetsDefinition:
    """A product whose contract has faults: an asset that says so, and fails with them when it is asked for."""
    faults = "\n".join(f"- {code(str(fault))}" for fault in error.faults)
    title = f"The contract of {prose(name)} has faults; it does not run until they are fixed."
    return _failing_asset(name, f"**{title}**\n\n{faults}", str(error))


def unloaded_asset(name: str, reason: str) -> dg.AssetsDefinition:
    """A product of which no assets can be made: one asset that says so, and fails when it is asked for."""
    return _failing_asset(name, f"**No assets can be made of {prose(name)}; it does not run:** {code(reason)}", reason)


def _failing_asset(name: str, description: str, reason: str) -> dg.AssetsDefinition:
    domain, product = names.parts(name)

    @dg.multi_asset(
        specs=[
            dg.AssetSpec(
                key=published_key(name),
                group_name=names.location(domain),
                description=description,
                tags={"mesh/broken": "true"},
            )
        ],
        name=names.op(domain, product, "broken"),
    )
    def broken() -> None:
        raise dg.Failure(description=reason, allow_retries=False)

    return broken


def _common(product: DataProduct, part: str) -> dict[str, Any]:
    return {
        "group_name": names.location(product.domain),
        "owners": [names.asset_owner(product.owner)],
        "tags": {
            "mesh/product": names.tag(product.fqn),
            "mesh/part": part,
            "mesh/alignment": str(product.alignment),
            **{names.tag(tag): "" for tag in product.tags},
        },
    }


def _stream(product: DataProduct) -> dg.AssetSpec:
    assert product.topic is not None
    topic = product.topic
    stated = {"partitions": topic.partitions, "cleanup policy": topic.cleanup_policy}
    return dg.AssetSpec(
        key=part_key(product, "stream"),
        kinds={"kafka", topic.wire_format},
        description=f"The topic `{topic.name}`: {topic.wire_format}.",
        metadata={"topic": topic.name} | {name: value for name, value in stated.items() if value is not None},
        **_common(product, "stream"),
    )


def _log(platform: Platform, product: DataProduct) -> dg.AssetsDefinition:
    spec = dg.AssetSpec(
        key=part_key(product, "log"),
        deps=[part_key(product, "stream")],
        kinds={"iceberg"},
        description="Every event of the stream, decoded, with its coordinates and fate. It outlives the topic.",
        **_common(product, "log"),
    )

    @dg.multi_asset(specs=[spec], **_op(product, "land"))
    def land_asset(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with _Faults(context):
            landed = land(platform, product)
        context.log.info(f"{counted(landed.rows, 'event')} landed in {counted(landed.commits, 'commit')}")
        yield dg.AssetObservation(
            asset_key=part_key(product, "stream"), metadata={"lag": landed.lag, **_offsets(landed.position)}
        )
        yield dg.MaterializeResult(
            asset_key=spec.key,
            metadata={
                "events": landed.rows,
                "quarantined": landed.quarantined,
                "redriven": landed.redriven,
                "lag": landed.lag,
                "commits": landed.commits,
                "seconds": round(landed.seconds, 3),
                **_offsets(landed.position),
            },
        )

    return land_asset


def _snapshot(platform: Platform, product: DataProduct, columns: dg.TableSchema) -> dg.AssetsDefinition:
    key = part_key(product, "snapshot")
    deps = [published_key(name) for name in product.inputs] or [part_key(product, "log")]
    checks = [
        dg.AssetCheckSpec(
            name=names.check(rule.id),
            asset=key,
            blocking=rule.on_failure is not OnFailure.WARN,
            description=prose(rule.description) or f"{rule.check} of {', '.join(rule.fields) or 'the product'}",
            metadata={"rule": rule.id, "dimension": rule.dimension or "-", "on failure": str(rule.on_failure)},
        )
        for rule in product.rules
        if rule.kind not in NOT_COMPUTED
    ]
    spec = dg.AssetSpec(
        key=key,
        deps=deps,
        kinds={"duckdb", "iceberg"},
        description=f"The next version of {product.fqn}, audited: {counted(len(checks), 'rule')} of its contract.",
        metadata={"dagster/column_schema": columns, **_column_lineage(platform, product)},
        **_common(product, "snapshot"),
    )

    @dg.multi_asset(specs=[spec], check_specs=checks, **_op(product, "snapshot"))
    def snapshot_asset(context: dg.AssetExecutionContext, duckdb: DuckDBResource) -> Iterator[Any]:
        with _Faults(context):
            if product.transform:
                with duckdb.get_connection() as connection:
                    taken = snapshot(platform, product, connection=connection, run=context.run.run_id)
            else:
                taken = snapshot(platform, product, run=context.run.run_id)
        results = _check_results(key, platform.ruling(product), taken, {check.name for check in checks})
        yield dg.MaterializeResult(asset_key=key, metadata=_snapshot_metadata(taken), check_results=list(results))

    return snapshot_asset


def _published(
    platform: Platform, product: DataProduct, columns: dg.TableSchema, unapplied: str | None
) -> dg.AssetsDefinition:
    key = published_key(product.fqn)
    spec = dg.AssetSpec(
        key=key,
        deps=[part_key(product, "snapshot")],
        kinds={"iceberg", "duckdb"},
        description=(f"**{prose(unapplied)}**\n\n" if unapplied else "") + _markdown(product),
        freshness_policy=_freshness(product),
        metadata={
            "dagster/column_schema": columns,
            "dagster/column_lineage": _identity_lineage(product, part_key(product, "snapshot")),
            "contract": dg.MetadataValue.text(f"{product.domain}/{product.name}/{contract_file(product.folder).name}"),
            "contract version": product.contract_version,
            "portal": dg.MetadataValue.url(
                f"{platform.settings.portal_address}/products/{product.domain}/{product.name}"
            ),
            "status": product.status,
        },
        **_common(product, "published"),
    )

    promised = objectives(product)
    checks = [
        dg.AssetCheckSpec(
            name=names.check(one.id),
            asset=key,
            description=f"The service level {one.property}: {one.promise}, as last observed (mesh observe).",
        )
        for one in promised
    ]

    @dg.multi_asset(specs=[spec], check_specs=[*checks, health_spec(key)], **_op(product, "publish"))
    def publish_asset(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with _Faults(context):
            done = publish(platform, product)
            [level] = levels(platform, [product]).values()
        version = done.version
        context.log.info(
            f"version {version.number} of {product.fqn} {'is' if done.changed else 'was already'} published"
        )
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={
                "dagster/row_count": version.rows,
                "version": version.number,
                "quarantined": version.quarantined,
                "rules": version.verdict.rules if version.verdict else 0,
                "rules that warned": version.verdict.warned if version.verdict else 0,
                "candidate": version.candidate_id,
                "contract hash": version.contract_hash[:12],
                "input versions": dict(version.input_versions),
                "seconds": round(done.seconds, 3),
                **(_offsets(version.position) if version.position else {}),
                **(_behind(level) if product.transform else {}),
            },
            check_results=[
                *_levels(platform, product, key, promised),
                *(health_result(key, one) for one in statuses(platform, [level], datetime.now(UTC))),
            ],
        )

    return publish_asset


def _behind(level: Level) -> dict[str, Any]:
    """What the inputs of a derived product have read and published since the versions that it was made from."""
    behind = lag(level)
    return {
        "lag": dg.MetadataValue.null() if behind.rows is None else behind.rows,
        "versions behind": behind.versions or 0,
    }


def _levels(
    platform: Platform, product: DataProduct, key: dg.AssetKey, promised: Sequence[Objective]
) -> Iterator[dg.AssetCheckResult]:
    """How each service level stood when the mesh was last observed; one that was not measured yet breaks nothing."""
    if not promised:
        return
    history = History.open(platform.settings)
    states = {one.objective: one for one in history.objectives(product.fqn)}
    history.close()
    for one in promised:
        state = states.get(one.id)
        measured = {
            "promised": one.promise,
            **({"measured": state.measured} if state and state.measured is not None else {}),
            **({"attained": state.attainment} if state and state.attainment is not None else {}),
        }
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=names.check(one.id),
            passed=state is None or state.met is not False,
            severity=dg.AssetCheckSeverity.WARN,
            description="kept" if state and state.met else "broken" if state and state.met is False else "not measured",
            metadata=measured,
        )


def _check_results(
    key: dg.AssetKey, product: DataProduct, taken: Snapshot, declared: Set[str]
) -> Iterator[dg.AssetCheckResult]:
    """A result for each check that Dagster knows of: another contract may have been applied since it was told them."""
    results = {names.check(result.rule): result for result in (taken.audit.results if taken.audit else ())}
    for name in sorted(declared - results.keys()):
        about = "not computed: the applied contract no longer has this rule"
        yield dg.AssetCheckResult(asset_key=key, check_name=name, passed=True, description=about)
    for name, result in results.items():
        if name not in declared:
            continue
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=name,
            passed=result.state in (State.PASS, State.VACUOUS),
            severity=dg.AssetCheckSeverity.ERROR if result.blocks else dg.AssetCheckSeverity.WARN,
            description=prose(
                result.message or f"{result.state}: measured {result.measured}, promised {result.threshold}"
            ),
            metadata=_check_metadata(result, examples(product, result.sample, Reader.VISITOR)),
        )


def _check_metadata(result: RuleResult, shown: Sequence[str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "state": str(result.state),
        "rows": result.rows,
        "promised": result.threshold,
        "milliseconds": round(result.milliseconds, 3),
    }
    if result.bad is not None:
        metadata["bad rows"] = result.bad
    if result.measured is not None:
        metadata["measured"] = float(result.measured)
    if shown:
        metadata["examples"] = dg.MetadataValue.md("\n".join(f"- {code(one)}" for one in shown))
    return metadata


def _snapshot_metadata(taken: Snapshot) -> dict[str, Any]:
    candidate = taken.candidate
    if candidate is None:
        return {}
    verdict = candidate.verdict
    return {
        "dagster/row_count": candidate.rows,
        "candidate": candidate.candidate_id,
        "version": candidate.number,
        "quarantined": candidate.quarantined,
        "rules failed": verdict.failed + verdict.errors if verdict else 0,
        "rules that warned": verdict.warned if verdict else 0,
        "base rewritten": taken.rewrote_base,
        "seconds": round(taken.seconds, 3),
    }


def _freshness(product: DataProduct) -> dg.FreshnessPolicy | None:
    """The contract's freshness (or latency) promise as a policy that fails when it is broken."""
    seconds = freshness_window(product)
    return None if seconds is None else dg.FreshnessPolicy.time_window(timedelta(seconds=max(seconds, _SHORTEST_S)))


def _column_schema(product: DataProduct) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=field.name,
                type=duckdb_type(field.type),
                description=prose(field.description) or None,
                constraints=dg.TableColumnConstraints(
                    nullable=not field.required,
                    unique=field.unique or (bool(field.key_position) and len(product.key) == 1),
                    other=["primary key"] if field.key_position else [],
                ),
                tags={"classification": field.classification} if field.classification != "public" else {},
            )
            for field in product.fields
        ]
    )


def _column_lineage(platform: Platform, product: DataProduct) -> Mapping[str, Any]:
    if product.transform is None:
        return {"dagster/column_lineage": _identity_lineage(product, part_key(product, "log"))}
    inputs = {name: platform.products[name] for name in product.inputs if name in platform.products}
    try:
        traced = transform.lineage(product, inputs)
    except TransformInvalid as error:
        return {"transform": error.message}
    deps = {
        column: [dg.TableColumnDep(asset_key=published_key(one.product), column_name=one.column) for one in sources]
        for column, sources in traced.items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)}


def _identity_lineage(product: DataProduct, upstream: dg.AssetKey) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {field.name: [dg.TableColumnDep(asset_key=upstream, column_name=field.name)] for field in product.fields}
    )


def _markdown(product: DataProduct) -> str:
    rows = "\n".join(
        f"| `{field.name}`{' (key)' if field.key_position else ''} | {duckdb_type(field.type)} "
        f"| {'yes' if field.required else 'no'} | {cell(field.description)} |"
        for field in product.fields
    )
    inputs = f"\n\nMade from {', '.join(f'`{name}`' for name in product.inputs)}." if product.inputs else ""
    return (
        f"{prose(product.about.text)}{inputs}\n\n"
        f"{product.alignment}, {product.event_type} events, contract {prose(product.contract_version)}, "
        f"owner {prose(product.owner)}.\n\n"
        f"| field | type | required | description |\n|---|---|---|---|\n{rows}\n\n"
        f'Read it: `mesh query "SELECT * FROM {product.fqn}"`'
    )


def _offsets(position: Position) -> dict[str, Any]:
    return {
        f"offset of partition {number}": offset.next_offset for number, offset in sorted(position.partitions.items())
    }


def _op(product: DataProduct, step: str) -> dict[str, Any]:
    """The op that does a step of a product: the products' pools admit one run at a time."""
    return {
        "name": names.op(product.domain, product.name, step),
        "pool": names.pool(product.domain, product.name),
        "retry_policy": dg.RetryPolicy(max_retries=_TRANSIENT_RETRIES, delay=2, backoff=dg.Backoff.EXPONENTIAL),
        "op_tags": {"dagster/priority": str(_PRIORITY[step])},
    }


class _Faults:
    """Shows an intended error as what it is: retried where it may pass by itself, else a plain failure."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._parent = within_run(context.run.run_id, context.run.job_name)

    def __enter__(self) -> None:
        self._parent.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._parent.__exit__(None, None, None)
        if isinstance(error, MeshError):
            raise dg.Failure(
                description=f"{error.code} {error}",
                metadata={"code": error.code, "next": error.next_step or "-"},
                allow_retries=error.transient,
            ) from None
        if error is not None:
            hide_in(error)
