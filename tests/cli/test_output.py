import pytest

from mesh_pipelines.cli.output import Output

RECORDS = [
    {"product": "shop.orders", "rows": 1_234_567, "owner": "[bold]ann[/]"},
    {"product": "shop.注文", "rows": None, "owner": "bo"},
]


def test_a_table_that_fits_is_aligned_by_what_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    Output().records(RECORDS)
    assert capsys.readouterr().out.splitlines() == [
        "product           rows  owner",
        "shop.orders  1,234,567  [bold]ann[/]",
        "shop.注文            -  bo",
    ]


def test_a_table_that_does_not_fit_is_folded_and_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    text = "".join(f"{number:03}" for number in range(100))
    Output().records([{**record, "[red]text": text} for record in RECORDS])
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 180
    assert printed[0].split() == ["product", "rows", "owner", "[red]text"]
    assert printed[1].split()[:3] == ["shop.orders", "1,234,567", "[bold]ann[/]"]
    assert len([line for line in printed if line.startswith("shop.")]) == 2
    folded = [line.split()[-1] for line in printed[1 : len(printed) // 2 + 1]]
    assert "".join(folded) == text
