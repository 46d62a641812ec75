import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_pipelines.contract.read.document import parse_document
from mesh_pipelines.contract.read.load import load_product, load_products, read_files
from mesh_pipelines.errors import ContractInvalid, Fault
from tests.building import contract_text

CASES = Path(__file__).parent / "cases"
FLIGHTS = (CASES / "operations" / "flights" / "contract.yaml").read_text(encoding="utf-8")
EVERYTHING = (CASES / "streams" / "whole_standard" / "contract.yaml").read_text(encoding="utf-8")


def source(domain: str, name: str, settings: str = "") -> str:
    return contract_text(f"{domain}.{name}", settings=settings)


def derived(domain: str, name: str, *inputs: str) -> str:
    text = source(domain, name, f"- {{property: mesh.inputs, value: [{', '.join(inputs)}]}}")
    return text.replace("source-aligned", "aggregate-aligned")


def place(assets: Path, fqn: str, contract: str, **texts: str) -> Path:
    folder = assets.joinpath(*fqn.split("."))
    folder.mkdir(parents=True)
    (folder / "contract.yaml").write_text(contract, encoding="utf-8")
    for name, text in texts.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return folder


def place_derived(assets: Path, fqn: str, *inputs: str) -> None:
    place(assets, fqn, derived(*fqn.split("."), *inputs), transform_sql="SELECT 1 AS id")


def faults_of(folder: Path) -> list[str]:
    with pytest.raises(ContractInvalid) as raised:
        load_product(folder)
    return [f"{fault.file.name} {fault.problem}" for fault in raised.value.faults]


def faults_or_none(folder: Path) -> tuple[Fault, ...]:
    try:
        load_product(folder)
    except ContractInvalid as error:
        return error.faults
    return ()


def test_one_broken_contract_hides_no_other(tmp_path: Path) -> None:
    place(tmp_path, "sales.orders", source("sales", "orders"))
    place(tmp_path, "sales.returns", "kind: [")
    loaded = load_products(tmp_path)
    assert list(loaded.products) == ["sales.orders"]
    assert list(loaded.broken) == ["sales.returns"]
    assert load_products(tmp_path / "nowhere").products == {}


def test_folders_that_are_no_product_are_passed_over(tmp_path: Path) -> None:
    place(tmp_path, "sales.orders", source("sales", "orders"))
    (tmp_path / "sales" / "__pycache__").mkdir()
    (tmp_path / "sales" / "notes").mkdir()
    (tmp_path / ".git" / "objects").mkdir(parents=True)
    (tmp_path / "README.md").touch()
    assert list(load_products(tmp_path).products) == ["sales.orders"]


@pytest.mark.parametrize("name", ["contract.yml", "transform.sql", "schema.avsc"])
def test_product_files_without_a_contract_are_broken(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "sales" / "orders"
    folder.mkdir(parents=True)
    (folder / name).write_text("x")
    loaded = load_products(tmp_path)
    [fault] = loaded.broken["sales.orders"].faults
    assert fault.problem == ("must be a mapping" if name == "contract.yml" else "does not exist")


NAMES = ("contract.yaml", "contract.yml", "Contract.yaml", "datacontract.yaml", "datacontract.yml", "orders.odcs.yaml")


@pytest.mark.parametrize("name", [*NAMES, "a.b.odcs.yml", "DataContract.YAML"])
def test_a_contract_has_one_of_the_usual_names(tmp_path: Path, name: str) -> None:
    folder = place(tmp_path, "sales.orders", source("sales", "orders"))
    (folder / "contract.yaml").rename(folder / name)
    (folder / "notes.yaml").write_text("kind: notes\n")
    kept = tmp_path / "kept.json"
    for _ in range(2):
        loaded = load_products(tmp_path, kept)
        assert list(loaded.products) == ["sales.orders"]
        assert read_files(folder).contract == (folder / name).read_text()
    (folder / name).write_text(source("sales", "orders").replace("role: owner", "role: guest"))
    [fault] = load_products(tmp_path, kept).broken["sales.orders"].faults
    assert fault.file == folder / name


def test_two_contracts_of_one_product_are_a_fault(tmp_path: Path) -> None:
    folder = place(tmp_path, "sales.orders", source("sales", "orders"))
    load_products(tmp_path, tmp_path / "kept.json")
    shutil.copy(folder / "contract.yaml", folder / "orders.odcs.yaml")
    [fault] = load_products(tmp_path, tmp_path / "kept.json").broken["sales.orders"].faults
    assert fault.problem == "is not the only contract here: contract.yaml, orders.odcs.yaml"


@pytest.mark.parametrize("name", ["orders.yaml", "contract.json", "odcs.yml"])
def test_a_contract_under_another_name_is_to_be_renamed(tmp_path: Path, name: str) -> None:
    folder = place(tmp_path, "sales.orders", source("sales", "orders"))
    (folder / "contract.yaml").rename(folder / name)
    [fault] = load_products(tmp_path).broken["sales.orders"].faults
    assert (fault.file, fault.fix) == (folder / name, "rename it to contract.yaml")


@pytest.mark.parametrize(
    "linked", ["sales", "sales/orders", "sales/orders/contract.yaml", "sales/orders/transform.sql"]
)
def test_links_are_refused(tmp_path: Path, linked: str) -> None:
    assets, elsewhere = tmp_path / "assets", tmp_path / "elsewhere"
    place(assets, "sales.orders", source("sales", "orders"), transform_sql="SELECT 1")
    path = assets / linked
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)
    assert f"{path.name} must not be a link" in faults_of(assets / "sales" / "orders")


def test_dangling_link_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "sales" / "orders"
    folder.mkdir(parents=True)
    (folder / "contract.yaml").symlink_to("/etc/passwd")
    assert list(load_products(tmp_path).broken) == ["sales.orders"]


def test_product_may_be_loaded_from_within_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place(tmp_path, "sales.orders", source("sales", "orders"))
    monkeypatch.chdir(folder.parent)
    assert load_product(Path("orders")).fqn == "sales.orders"


def test_unknown_input_with_a_suggestion(tmp_path: Path) -> None:
    place(tmp_path, "sales.orders", source("sales", "orders"))
    place_derived(tmp_path, "sales.totals", "sales.order")
    (fault,) = load_products(tmp_path).broken["sales.totals"].faults
    assert fault.problem == "no contract declares its input sales.order"
    assert fault.fix == "did you mean sales.orders?"


def test_input_whose_contract_is_broken_is_no_fault(tmp_path: Path) -> None:
    place(tmp_path, "sales.orders", "x")
    place_derived(tmp_path, "sales.totals", "sales.orders")
    assert list(load_products(tmp_path).products) == ["sales.totals"]


def test_cycle_is_broken_in_all_its_members_only(tmp_path: Path) -> None:
    place_derived(tmp_path, "a.one", "a.two")
    place_derived(tmp_path, "a.two", "a.three")
    place_derived(tmp_path, "a.three", "a.one")
    place_derived(tmp_path, "a.self", "a.self")
    place_derived(tmp_path, "a.after", "a.one")
    loaded = load_products(tmp_path)
    assert list(loaded.products) == ["a.after"]
    assert list(loaded.broken) == ["a.one", "a.self", "a.three", "a.two"]
    (fault,) = loaded.broken["a.one"].faults
    assert fault.problem == "it depends on itself: a.one -> a.two -> a.three -> a.one"


def test_topic_shared_by_two_products_is_a_fault_of_both(tmp_path: Path) -> None:
    place(tmp_path, "sales.orders", source("sales", "orders"))
    place(tmp_path, "shop.orders", source("shop", "orders", "- {property: mesh.topic, value: sales.orders}"))
    assert list(load_products(tmp_path).broken) == ["sales.orders", "shop.orders"]


def test_hash_covers_what_is_promised_and_not_how_it_is_laid_out(tmp_path: Path) -> None:
    def hash_of(contract: str, **texts: str) -> str:
        shutil.rmtree(tmp_path / "sales", ignore_errors=True)
        return load_product(place(tmp_path, "sales.orders", contract, **texts)).contract_hash

    contract = source("sales", "orders")
    schema = '{"type":"record","name":"o","fields":[{"name":"id","type":"string"}]}'
    computed = derived("sales", "orders", "a.b")
    hashes = [
        hash_of(contract),
        hash_of(contract.replace("1.0.0", "1.0.1")),
        hash_of(contract, schema_avsc=schema),
        hash_of(computed, transform_sql="SELECT 1 AS id"),
        hash_of(computed, transform_sql="SELECT 2 AS id"),
    ]
    assert len(set(hashes)) == len(hashes)
    values = parse_document(Path(), contract).values
    reordered = json.dumps(dict(reversed(values.items())), indent=3)
    assert hash_of("# a comment\n" + reordered) == hashes[0]


def test_every_fault_of_every_stage_at_once(tmp_path: Path) -> None:
    contract = FLIGHTS.replace("mustBeLessThan", "mustBeLesThan").replace("role: owner", "role: reader")
    contract = contract.replace("mesh.eventType", "mesh.eventtype").replace("value: 4", "value: four")
    folder = place(tmp_path, "operations.flights", contract, schema_avsc="{")
    assert len(faults_of(folder)) == 6


def test_many_nested_levels_take_no_time_beyond_their_size(tmp_path: Path) -> None:
    nested = "{logicalType: object, properties: [{name: a, logicalType: array, items: %s}]}"
    field = "{logicalType: string, oops: 1}"
    for _ in range(8):
        field = nested % field
    contract = source("sales", "orders").replace(
        "primaryKey: true}", "primaryKey: true}\n      - {name: deep, logicalType: array, items: " + field + "}"
    )
    folder = place(tmp_path, "sales.orders", contract)
    assert any("not a key of the standard" in fault for fault in faults_of(folder))


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, item in items for inner in paths(item, (*path, key)))]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["", "object", "array", "map", "vector", "date", "mesh.inputs", "sql", "custom", "divert", "i8"]),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3)), max_size=2),
    st.dictionaries(st.sampled_from(["property", "value", "name", "metric", "type", "x"]), st.text(max_size=3)),
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mutated_contract_loads_or_has_faults(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    values = parse_document(Path(), data.draw(st.sampled_from([FLIGHTS, EVERYTHING]))).values
    for _ in range(data.draw(st.integers(1, 4))):
        *around, key = data.draw(st.sampled_from([path for path in paths(values) if path]))
        parent = values
        for part in around:
            parent = parent[part]
        match data.draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                parent[key] = data.draw(VALUES)
            case "remove":
                parent.pop(key)
            case _ if isinstance(parent, dict):
                parent[data.draw(st.sampled_from(["enum", "map", "items", "quality", "mustBe", "zz", "team"]))] = (
                    data.draw(VALUES)
                )
    folder = tmp_path_factory.getbasetemp() / "operations" / "flights"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contract.yaml").write_text(json.dumps(values), encoding="utf-8")
    assert all(str(fault).isprintable() and fault.fix for fault in faults_or_none(folder))


@settings(max_examples=200, deadline=None)
@given(place_at=st.integers(0, len(FLIGHTS.encode())), junk=st.binary(max_size=12), removed=st.integers(0, 12))
def test_contract_with_damaged_bytes_loads_or_has_faults(
    tmp_path_factory: pytest.TempPathFactory, place_at: int, junk: bytes, removed: int
) -> None:
    content = FLIGHTS.encode()
    folder = tmp_path_factory.getbasetemp() / "operations" / "flights"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contract.yaml").write_bytes(content[:place_at] + junk + content[place_at + removed :])
    assert all(str(fault).isprintable() for fault in faults_or_none(folder))


AVRO_WORDS = st.sampled_from(
    ["null", "string", "int", "record", "array", "map", "enum", "fixed", "decimal", "R", "x", ""]
)
AVRO_KEYS = ("name", "namespace", "fields", "items", "values", "logicalType", "precision", "symbols", "default", "size")
AVRO_LIKE = st.recursive(
    st.one_of(st.none(), st.integers(), AVRO_WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.fixed_dictionaries({"type": inner}, optional=dict.fromkeys(AVRO_KEYS, inner)),
        st.fixed_dictionaries({"name": AVRO_WORDS, "type": inner}),
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        AVRO_LIKE.map(lambda value: json.dumps({"type": "record", "name": "R", "fields": [value]}).encode()),
    )
)
def test_any_avro_schema_agrees_or_has_faults(tmp_path_factory: pytest.TempPathFactory, schema: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "sales" / "orders"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contract.yaml").write_text(source("sales", "orders"), encoding="utf-8")
    (folder / "schema.avsc").write_bytes(schema)
    for fault in faults_or_none(folder):
        assert fault.file.name == "schema.avsc"
        assert str(fault).isprintable()


def test_a_nameless_field_with_rules_is_a_fault_of_its_name(tmp_path: Path) -> None:
    contract = FLIGHTS.replace("name: origin", 'name: ""')
    assert (
        faults_of(place(tmp_path, "operations.flights", contract))[0]
        == "contract.yaml must be a valid field name, got ''"
    )


def test_line_breaks_of_a_file_do_not_break_the_lines_of_its_faults(tmp_path: Path) -> None:
    contract = FLIGHTS.replace("property: freshness", 'property: "fresh\\nness"')
    assert "contract.yaml fresh\\nness is not a service level" in faults_of(
        place(tmp_path, "operations.flights", contract)
    )
