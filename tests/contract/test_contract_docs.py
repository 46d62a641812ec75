"""The reference of the contract format says what the code does: its examples load, its tables are complete."""

import re
from pathlib import Path

import pytest

from mesh_pipelines.contract.durations import SECONDS
from mesh_pipelines.contract.metrics.patterns import FORMATS as TEXT_FORMATS
from mesh_pipelines.contract.metrics.registry import in_quality, options
from mesh_pipelines.contract.model import Compatibility, Operator
from mesh_pipelines.contract.read import document, service_levels
from mesh_pipelines.contract.read import field_reader as fields
from mesh_pipelines.contract.read import rule_reader as rules
from mesh_pipelines.contract.read import settings_reader as stream
from mesh_pipelines.contract.read.load import load_product
from mesh_pipelines.formats.registered import FORMATS

TEXT = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")
WORDS = set(re.findall(r"`([^`\n]+)`", TEXT))
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
WHOLE = EXAMPLES[0]


def load(tmp_path: Path, contract: str, api: str = "v3.1.0") -> None:
    folder = tmp_path / "sales" / "orders"
    folder.mkdir(parents=True)
    (folder / "contract.yaml").write_text(contract.replace("v3.1.0", api), encoding="utf-8")
    if "mesh.inputs" in contract:
        (folder / "transform.sql").write_text("SELECT 1", encoding="utf-8")
    load_product(folder)


def test_the_first_contract_loads(tmp_path: Path) -> None:
    load(tmp_path, WHOLE)


@pytest.mark.parametrize("example", EXAMPLES[1:], ids=lambda text: text.partition("\n")[0])
def test_every_other_example_fits_into_it(tmp_path: Path, example: str) -> None:
    extra = "      - {name: dep_delay, logicalType: integer}\n      - {name: scheduled_at, logicalType: timestamp}\n"
    extra += "      - {name: arrived_at, logicalType: date}\n      - {name: departed_at, logicalType: date}\n"
    base = WHOLE.replace("    quality:\n      - metric: rowCount", extra + "    quality:\n      - metric: rowCount")
    indented = re.sub(r"^(?=.)", "      ", example, flags=re.MULTILINE)
    if example.startswith("- name"):
        contract = base.replace(extra, extra + indented)
    elif example.startswith("quality:"):
        contract = base.replace(
            extra, extra + "      - name: field_with_rules\n        logicalType: string\n" + indent(example, 8)
        )
    elif example.startswith("team:"):
        contract = re.sub(r"^team:.*?(?=^schema:)", example, base, flags=re.MULTILINE | re.DOTALL)
    elif example.startswith("slaProperties:"):
        contract = base + example
    else:
        contract = base.partition("customProperties:")[0] + example
    assert contract != base
    load(tmp_path, contract, api="v3.2.0")


def indent(text: str, spaces: int) -> str:
    return re.sub(r"^(?=.)", " " * spaces, text, flags=re.MULTILINE)


def test_every_name_the_code_knows_is_documented() -> None:
    known = {
        *stream._SETTINGS,
        *fields._SETTINGS,
        *in_quality(),
        *options(),
        *TEXT_FORMATS,
        *rules.WARNING_SEVERITIES,
        *map(str, Operator),
        *map(str, FORMATS),
        *fields._LOGICAL,
        *service_levels._PROPERTIES.values(),
        *(name for words in fields._PHYSICAL.values() for name in words),
        *(argument for metric in in_quality().values() for argument in metric.arguments),
    }
    spoken = " ".join(WORDS)
    assert {name for name in known if not re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", spoken)} == set()


def test_every_mesh_setting_documented_is_known() -> None:
    documented = set(re.findall(r"mesh\.[a-zA-Z]+", TEXT))
    assert documented == {*stream._SETTINGS, *fields._SETTINGS}


def test_limits_units_and_modes_are_as_documented() -> None:
    assert f"most {document.MAX_DEPTH} levels and {document.MAX_VALUES:,} values" in TEXT
    assert document.MAX_BYTES == 1024 * 1024
    assert f"`^{fields.NAME.pattern}$`" in TEXT
    assert {mode.removesuffix("_TRANSITIVE") for mode in Compatibility} <= WORDS
    assert {
        "s",
        "m",
        "h",
        "d",
        "w",
        "y",
        "second",
        "min",
        "minute",
        "hour",
        "day",
        "week",
        "year",
    } <= WORDS & SECONDS.keys()
