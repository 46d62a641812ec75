"""What a contract tells people: purpose and limits, who to ask, what it costs, where more is written.

Nothing of it is enforced. It is read all the same, for the pages that show it and the messages that go to its
addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh_pipelines.contract.model import About, Link, Role, SupportChannel


def read_about(values: Mapping[str, Any]) -> About:
    """The texts of a contract that keeps to the standard; whatever is left out is empty."""
    description = values.get("description") or {}
    team = values.get("team")
    return About(
        purpose=_text(description, "purpose"),
        usage=_text(description, "usage"),
        limitations=_text(description, "limitations"),
        team_name=_text(team, "name") if isinstance(team, Mapping) else "",
        support=tuple(_channel(raw) for raw in values.get("support") or ()),
        links=tuple(
            Link(_text(raw, "type"), _text(raw, "url"), _text(raw, "description"))
            for raw in [
                *(description.get("authoritativeDefinitions") or ()),
                *(values.get("authoritativeDefinitions") or ()),
            ]
        ),
        roles=tuple(
            Role(_text(raw, "role"), _text(raw, "access"), _text(raw, "description"), _text(raw, "firstLevelApprovers"))
            for raw in values.get("roles") or ()
        ),
        price=_price(values.get("price") or {}),
    )


def _channel(raw: Mapping[str, Any]) -> SupportChannel:
    return SupportChannel(*(_text(raw, name) for name in ("channel", "url", "tool", "scope", "description")))


def _price(raw: Mapping[str, Any]) -> str:
    if raw.get("priceAmount") is None:
        return ""
    unit = _text(raw, "priceUnit")
    return f"{raw['priceAmount']} {_text(raw, 'priceCurrency')}".strip() + (f" per {unit}" if unit else "")


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    return "" if value is None else str(value).strip()
