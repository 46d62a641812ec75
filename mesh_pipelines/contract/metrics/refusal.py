"""The error by which a rule's compilation stops: what is wrong with the rule, and what to write instead."""

from __future__ import annotations


class Uncompilable(ValueError):
    """The rule means nothing that could be measured; the message is the problem, ``fix`` what to do."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix
