"""Text that shows itself at the prompt as it prints, with the facts behind it as attributes."""


class Text(str):
    """A string whose repr is itself, so that the prompt shows its lines."""

    def __new__(cls, text, **facts):
        self = super().__new__(cls, text)
        self.__dict__.update(facts)
        return self

    def __repr__(self):
        return str(self)
