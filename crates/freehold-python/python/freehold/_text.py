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

    def _repr_html_(self):
        from . import _html

        return _html.text(self)


class Reason(NamedTuple):
    """One reason of a decision: a stable code, and what it says here."""

    code: str
    text: str


class Told(str):
    """The text of a warning. Python shows a warning once a line and text; this text is the same one whatever numbers are in
    it, so that a loop over batches of many sizes warns once and not once a size."""

    def __new__(cls, text, about):
        self = super().__new__(cls, text)
        self.about = about
        return self

    def __eq__(self, other):
        return self.about == other.about if isinstance(other, Told) else str.__eq__(self, other)

    def __hash__(self):
        return hash(self.about)

    def __str__(self):
        return self

    def __reduce__(self):
        return str, (self[:],)
