"""What a GraphQL document needs, by its top-level fields, however they are written."""

from __future__ import annotations

import pytest

from mesh_pipelines.errors import SettingInvalid
from mesh_pipelines.orchestration.roles import Role, Unreadable, check_reach, needed, only_subscribes, role_of
from mesh_pipelines.settings import Settings
from mesh_pipelines.web.sessions import User

LAUNCH = "launchRun(executionParams: {}) { __typename }"
WIPE = "wipeAssets(assetPartitionRanges: []) { __typename }"


@pytest.mark.parametrize(
    ("query", "role"),
    [
        ("{ version }", Role.VIEW),
        ("query { assetNodes { id } }", Role.VIEW),
        ("query Q { ...F } fragment F on Query { version }", Role.VIEW),
        ("mutation { setNuxSeen }", Role.VIEW),
        (f"mutation {{ {LAUNCH} }}", Role.LAUNCH),
        (f"mutation {{ version: {LAUNCH} }}", Role.LAUNCH),
        (f"mutation {{ {WIPE} }}", Role.ADMINISTER),
        (f"mutation {{ launchRun: {WIPE} }}", Role.ADMINISTER),
        (f"mutation {{ {LAUNCH} {WIPE} }}", Role.ADMINISTER),
        (f"mutation {{ ... {{ {WIPE} }} }}", Role.ADMINISTER),
        (f"mutation {{ ... on Mutation {{ ... on Mutation {{ {WIPE} }} }} }}", Role.ADMINISTER),
        (f"mutation {{ ...A }} fragment A on Mutation {{ ...B }} fragment B on Mutation {{ {WIPE} }}", Role.ADMINISTER),
        (f"query A {{ version }} mutation B {{ {WIPE} }}", Role.ADMINISTER),
        (f"mutation ($x: Boolean!) {{ {WIPE.replace('{ __', '@include(if: $x) { __')} }}", Role.ADMINISTER),
        ("mutation { somethingNew }", Role.ADMINISTER),
        ("mutation { ...Nothing }", Role.ADMINISTER),
        ("mutation { ...A } fragment A on Mutation { ...A }", Role.ADMINISTER),
        (f"# query\nmutation\n,,,{{\ufeff {WIPE} }}", Role.ADMINISTER),
        ("mutation { __typename }", Role.ADMINISTER),
        ("subscription { locationStateChangeEvents { event { message } } }", Role.VIEW),
    ],
)
def test_a_document_needs_the_role_of_its_fields(query: str, role: Role) -> None:
    assert needed(query) is role


@pytest.mark.parametrize("query", ["", "mutation", "{", "{" * 50_000, "{ a " * 30_000, "\0", "mutation { a } }"])
def test_what_is_not_graphql_is_not_passed_on(query: str) -> None:
    with pytest.raises(Unreadable):
        needed(query)


@pytest.mark.parametrize(
    ("query", "only"),
    [
        ("subscription { locationStateChangeEvents { event { message } } }", True),
        ("{ version }", False),
        (f"mutation {{ {WIPE} }}", False),
        (f"subscription S {{ locationStateChangeEvents {{ x }} }} mutation M {{ {WIPE} }}", False),
    ],
)
def test_a_websocket_is_for_subscriptions(query: str, only: bool) -> None:
    assert only_subscribes(query) is only


def test_every_mutation_of_dagster_is_judged() -> None:
    """Fails when a version of Dagster brings or renames one: judge it, then list it here."""
    from dagster_graphql.schema import create_schema

    schema = create_schema().graphql_schema
    assert schema.mutation_type is not None
    roles = {name: needed(f"mutation {{ {name} }}") for name in schema.mutation_type.fields}
    assert {name for name, role in roles.items() if role is Role.VIEW} == {"logTelemetry", "setNuxSeen"}
    assert {name for name, role in roles.items() if role is Role.LAUNCH} == {
        *("launchRun", "launchMultipleRuns", "launchRunReexecution", "terminateRun", "terminateRuns"),
        *("launchPipelineExecution", "launchPipelineReexecution", "terminatePipelineExecution"),
        *("launchPartitionBackfill", "resumePartitionBackfill", "reexecutePartitionBackfill"),
        "cancelPartitionBackfill",
    }
    assert {name for name, role in roles.items() if role is Role.ADMINISTER} == {
        *("wipeAssets", "deleteRun", "deletePipelineRun", "addDynamicPartition", "deleteDynamicPartitions"),
        *("startSchedule", "stopRunningSchedule", "resetSchedule", "startSensor", "stopSensor", "resetSensor"),
        *("setSensorCursor", "sensorDryRun", "scheduleDryRun", "reloadRepositoryLocation", "reloadWorkspace"),
        *("shutdownRepositoryLocation", "reportRunlessAssetEvents", "reportAssetCheckEvaluations"),
        *("setAppManagedComponent", "deleteAppManagedComponent", "refreshComponentState"),
        *("setAutoMaterializePaused", "setConcurrencyLimit", "deleteConcurrencyLimit"),
        *("freeConcurrencySlotsForRun", "freeConcurrencySlots"),
    }


@pytest.mark.parametrize(
    ("names", "everything", "role"),
    [
        (set(), False, Role.VIEW),
        ({"bob@example.com"}, False, Role.VIEW),
        ({"ann@example.com"}, False, Role.LAUNCH),
        ({"root@example.com"}, False, Role.ADMINISTER),
        ({"ann@example.com", "root@example.com"}, False, Role.ADMINISTER),
        (set(), True, Role.ADMINISTER),
    ],
)
def test_a_role_is_given_by_name(names: set[str], everything: bool, role: Role) -> None:
    settings = Settings(dagster_launch="Ann@example.com", dagster_administer="x, ROOT@example.com")
    assert role_of(User("x", frozenset(names), everything), settings) is role


def test_by_default_who_signs_in_may_only_view_and_a_star_is_everybody() -> None:
    ann = User("Ann", frozenset({"ann@example.com"}))
    assert role_of(ann, Settings()) is Role.VIEW
    assert role_of(ann, Settings(dagster_launch=["*"])) is Role.LAUNCH
    assert role_of(User("*", frozenset({""})), Settings(dagster_launch=[""], dagster_administer="")) is Role.VIEW


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "mesh.example"])
def test_without_sign_in_it_is_not_served_where_others_can_reach_it(host: str) -> None:
    with pytest.raises(SettingInvalid, match="MESH_HOST"):
        check_reach(Settings(host=host))
    check_reach(Settings(host=host, oidc_issuer="https://login.example.org"))
    check_reach(Settings(host="127.0.0.1"))
