"""What the native half gives out as Python's own types: text, and reasons."""

from typing import NamedTuple


class Text(str):
    """A string that the prompt shows as it prints, with the facts behind it as attributes."""

    def __new__(cls, text, **facts):
        self = super().__new__(cls, text)
        self.__dict__.update(facts)
        return self

    def __repr__(self):
        return str(self)


class Reason(NamedTuple):
    """One reason of a decision: a stable code, and what it says here."""

    code: str
    text: str
