"""Files of a product's folder are read and written as themselves, also if they are swapped while that happens."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh_pipelines.contract.model import DataProduct
from mesh_pipelines.contract.read.load import files_of, load_product, load_products
from mesh_pipelines.contract.read.plain_file import NotPlain, read_plain, write_plain
from mesh_pipelines.errors import ContractInvalid
from mesh_pipelines.plan.lint import write_suites
from mesh_pipelines.platform import Platform
from mesh_pipelines.settings import Settings
from tests.building import contract_text, write_contract

SECRET = "the key that signs sessions"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").mkdir()
    for name in ("contract.yaml", "transform.sql", "schema.avsc"):
        (tmp_path / "secret" / name).write_text(SECRET)
    return write_contract(tmp_path / "assets", contract_text("shop.orders"))


def by_file(folder: Path) -> None:
    (folder / "contract.yaml").unlink()
    (folder / "contract.yaml").symlink_to(folder.parents[2] / "secret" / "contract.yaml")


def by_folder(folder: Path) -> None:
    folder.rename(folder.with_name("before"))
    folder.symlink_to(folder.parents[2] / "secret")


def by_domain(folder: Path) -> None:
    (folder.parents[2] / "secret" / "orders").mkdir()
    (folder.parents[2] / "secret" / "orders" / "contract.yaml").write_text(SECRET)
    folder.parent.rename(folder.parent.with_name("before"))
    folder.parent.symlink_to(folder.parents[2] / "secret")


SWAPS = pytest.mark.parametrize("swap", [by_file, by_folder, by_domain])


@SWAPS
def test_a_link_is_neither_read_nor_written_through(folder: Path, swap: Callable[[Path], None]) -> None:
    file = folder / "contract.yaml"
    assert read_plain(file, 10_000).decode() == file.read_text()
    swap(folder)
    assert file.read_text() == SECRET
    with pytest.raises(NotPlain, match="must not be a link"):
        read_plain(file, 10_000)
    with pytest.raises(NotPlain, match="must not be a link"):
        write_plain(file, "x")
    assert file.read_text() == SECRET


@SWAPS
def test_a_contract_that_is_swapped_for_a_link_after_its_check_is_not_given_out(
    folder: Path, swap: Callable[[Path], None]
) -> None:
    product = load_product(folder)
    assert files_of(product).contract == (folder / "contract.yaml").read_text()
    swap(folder)
    with pytest.raises(ContractInvalid) as raised:
        files_of(product)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("file", ["contract.yaml", "transform.sql", "schema.avsc"])
def test_a_file_that_says_something_else_after_its_check_is_not_given_out(folder: Path, file: str) -> None:
    product = load_product(folder)
    (folder / file).write_text(contract_text("shop.orders", version="9.9.9") if file == "contract.yaml" else "SELECT 1")
    with pytest.raises(ContractInvalid, match="has changed since it was checked"):
        files_of(product)


def test_no_swap_however_quick_lets_another_file_through(folder: Path) -> None:
    file, aside, link = folder / "contract.yaml", folder / "aside", folder / "link"
    text = file.read_text()
    link.symlink_to(folder.parents[2] / "secret" / "contract.yaml")
    stop = threading.Event()

    def swapping() -> None:
        while not stop.is_set():
            os.rename(file, aside)
            os.rename(link, file)
            os.rename(file, link)
            os.rename(aside, file)

    thread = threading.Thread(target=swapping)
    thread.start()
    seen: set[str] = set()
    try:
        for _ in range(3000):
            try:
                seen.add(read_plain(file, 10_000).decode())
            except (NotPlain, FileNotFoundError) as error:
                seen.add(type(error).__name__)
    finally:
        stop.set()
        thread.join()
    assert text in seen
    assert seen <= {text, "NotPlain", "FileNotFoundError"}


def test_a_pipe_or_a_folder_is_no_file_and_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "inner").mkdir()
    for name in ("pipe", "inner"):
        with pytest.raises(NotPlain, match="must be a regular file"):
            read_plain(folder / name, 10)


def test_links_above_the_assets_folder_are_the_operators(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(folder.parents[1])
    assert load_products(tmp_path / "linked").products.keys() == {"shop.orders"}


def test_no_more_is_read_than_asked_for(folder: Path) -> None:
    (folder / "long").write_text("x" * 100_000)
    assert len(read_plain(folder / "long", 1000)) == 1001


def test_a_product_is_not_kept_under_the_content_that_its_files_had_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "home" / "contracts.json"
    kept.parent.mkdir()
    file = folder / "contract.yaml"
    first, second = contract_text("shop.orders"), contract_text("shop.orders", version="2.0.0")

    def swapped(folder: Path) -> DataProduct:
        file.write_text(second)
        return load_product(folder)

    monkeypatch.setattr("mesh_pipelines.contract.read.load.load_product", swapped)
    load_products(folder.parents[1], kept)
    monkeypatch.undo()
    file.write_text(first)
    assert load_products(folder.parents[1], kept).products["shop.orders"].contract_version == "1.0.0"


def test_expectations_are_not_written_through_a_link(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "secret" / "contract.yaml"
    (folder / "expectations.json").symlink_to(target)
    platform = Platform.open(Settings(home=tmp_path / "home", assets=folder.parents[1]))
    with pytest.raises(ContractInvalid, match="must not be a link"):
        write_suites(platform)
    assert target.read_text() == SECRET
