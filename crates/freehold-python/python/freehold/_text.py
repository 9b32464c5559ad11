"""What the native half gives out as Python's own types: text, and reasons."""

from typing import Any, NamedTuple, Optional


class Text(str):
    """A string that the prompt shows as it prints, with the facts behind it as attributes."""

    def __new__(cls, text: str, **facts: Any) -> "Text":
        self = super().__new__(cls, text)
        self.__dict__.update(facts)
        return self

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from . import _html

        return _html.text(self)


class Overlap(Text):
    """What `fh.explain` says of two objects."""

    # Whether a byte belongs to both, and how many do; None where the search gave up.
    aliases: Optional[bool]
    bytes: Optional[int]
    # The addresses of the first and one past the last shared byte.
    span: Optional[tuple[int, int]]
    # Whether they are parts of one allocation, and which on the ledger.
    same_buffer: Optional[bool]
    buffers: tuple[Optional[int], Optional[int]]


class Reason(NamedTuple):
    """One reason of a decision: a stable code, and what it says here."""

    code: str
    text: str


class Told(str):
    """The text of a warning. Python shows a warning once a line and text; this text is the same one whatever numbers are in
    it, so that a loop over batches of many sizes warns once and not once a size."""

    about: str

    def __new__(cls, text: str, about: str) -> "Told":
        self = super().__new__(cls, text)
        self.about = about
        return self

    def __eq__(self, other: object) -> bool:
        return self.about == other.about if isinstance(other, Told) else str.__eq__(self, other)

    def __hash__(self) -> int:
        return hash(self.about)

    def __str__(self) -> str:
        return self

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return str, (self[:],)
