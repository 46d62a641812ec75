"""How long the next attempt waits after failures, by their cause and where the product stood; without any service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.scaffold import scaffold
from mesh_pipelines.errors import AuditBlocked, ConcurrentWriter, MeshError, RegistryUnreachable, UnknownVersion
from mesh_pipelines.pipeline.attempts import Failure, Mark, failure_of, failures, forget, mends, note, remembered
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings
from tests.building import contract_text, write_contract

INPUTS = "- {property: mesh.inputs, value: [shop.orders]}"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
STOOD = Mark("hash", (0, 0, 0), {0: 10}, {"a.b": 3})


def failed(at: datetime, *, code: str = "M106", mark: Mark = STOOD, transient: bool = False) -> Failure:
    return Failure("land", code, "it is poison", "mend it", transient, mark, at, at)


def waits(tries: int, *, transient: bool = False) -> list[float]:
    """The waits of attempts that each come when the wait before is over."""
    failure = failed(NOON, transient=transient).follows(None)
    found: list[float] = []
    for _ in range(tries):
        assert failure.until
        found.append((failure.until - failure.at).total_seconds())
        failure = failed(failure.until, transient=transient).follows(failure)
    assert (failure.count, failure.first_at) == (tries + 1, NOON)
    return found


def test_waits_double_up_to_a_bound() -> None:
    assert waits(9) == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert waits(6, transient=True) == [5, 10, 20, 40, 60, 60]
    assert waits(5000)[-1] == 3600


def test_another_cause_or_place_begins_anew() -> None:
    twice = failed(NOON + timedelta(seconds=30)).follows(failed(NOON).follows(None))
    assert twice.count == 2
    later = NOON + timedelta(hours=2)
    assert failed(later, code="M301").follows(twice).count == 1
    assert failed(later, mark=Mark("another", (0, 0, 0), {0: 10})).follows(twice).count == 1
    assert failed(later, mark=Mark("hash", (1, 0, 0), {0: 10})).follows(twice).count == 1
    assert failed(later, mark=Mark("hash", (0, 0, 0), {0: 11})).follows(twice).count == 1


def test_new_versions_of_inputs_mend_nothing_and_a_rollback_does() -> None:
    assert not mends(Mark("hash", (0, 0, 0), {0: 10}, {"a.b": 4, "c.d": 1}), STOOD)
    assert mends(Mark("hash", (0, 0, 0), {0: 10}, {"a.b": 2}), STOOD)


@given(st.lists(st.floats(0, 10_000), max_size=50))
def test_attempts_at_any_times_never_wait_longer_than_an_hour(pauses: list[float]) -> None:
    now, failure = NOON, failed(NOON).follows(None)
    for pause in pauses:
        now += timedelta(seconds=pause)
        before, failure = failure, failed(now).follows(failure)
        assert failure.until
        assert failure.until - now <= timedelta(hours=1)
        assert failure.count <= before.count + 1


@pytest.fixture
def platform(local_settings: Settings) -> Platform:
    scaffold(local_settings.assets, "shop/orders")
    platform = Platform.open(local_settings)
    platform.tables_of(platform.product("shop.orders")).create()
    return platform


def test_what_is_remembered_and_what_says_nothing_of_the_next_attempt(platform: Platform) -> None:
    orders, settings = platform.product("shop.orders"), platform.settings
    lost: tuple[MeshError, ...] = (ConcurrentWriter("another was first"), UnknownVersion("no such version"))
    for error in lost:
        note(platform, orders, "snapshot", error)
    assert failures(settings) == {}
    note(platform, orders, "land", RegistryUnreachable("it is away", next_step="mesh doctor"), NOON)
    kept = failure_of(settings, "shop.orders")
    assert kept
    assert (kept.code, kept.message, kept.next_step) == ("M402", "it is away", "mesh doctor")
    assert (kept.transient, kept.until) == (True, NOON + timedelta(seconds=5))
    note(platform, orders, "publish", AuditBlocked("a rule is broken"), NOON)
    assert failures(settings)["shop.orders"].step == "audit"
    note(platform, orders, "land", ZeroDivisionError("a bug"), NOON)
    assert failures(settings)["shop.orders"].message == "ZeroDivisionError: a bug"
    forget(settings)
    assert failures(settings) == {}


def test_an_error_is_told_even_where_it_cannot_be_remembered(platform: Platform) -> None:
    (platform.settings.home / "attempts").write_text("not a folder")
    note(platform, platform.product("shop.orders"), "land", RegistryUnreachable("it is away"))
    assert failure_of(platform.settings, "shop.orders") is None


@pytest.mark.parametrize(("classification", "is_told"), [("public", True), ("restricted", False)])
def test_a_failure_tells_values_of_public_fields_only(
    local_settings: Settings, classification: str, is_told: bool
) -> None:
    fields = f"- {{name: id, logicalType: string, primaryKey: true, classification: {classification}}}"
    write_contract(local_settings.assets, contract_text("shop.orders", fields))
    derived = contract_text("shop.totals", alignment="aggregate-aligned", settings=INPUTS)
    write_contract(local_settings.assets, derived, "SELECT id FROM shop.orders")
    platform = Platform.open(local_settings)

    @remembered("snapshot")
    def step(platform: Platform, product: DataProduct) -> None:
        raise duckdb.ConversionException("Conversion Error: Could not convert string 'canary'")

    # The derived product's own fields are public: it is its input's that the error may quote.
    for product in platform.in_order:
        with pytest.raises(duckdb.ConversionException) as raised:
            step(platform, product)
        kept = failure_of(local_settings, product.fqn)
        assert kept
        assert ("canary" in str(raised.value), "canary" in kept.message) == (is_told, is_told)
