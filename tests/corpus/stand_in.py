"""Code of a test that stands in for another project."""

import pathlib
import types


def as_package(name):
    """Runs a function as code of the package `name`: that is whom it is when it asks for a capsule."""

    def rename(function):
        globals_ = {**function.__globals__, "__name__": name}
        return types.FunctionType(function.__code__, globals_, function.__name__, function.__defaults__, function.__closure__)

    return rename


def line_of(function, text):
    """`file:line in function` of the line of a function that is the first with a text in it, as the ledger says it."""
    code = function.__code__
    lines = pathlib.Path(code.co_filename).read_text().splitlines()
    numbers = {line for _, _, line in code.co_lines() if line}
    found = next(number for number in sorted(numbers) if text in lines[number - 1])
    return f"{code.co_filename}:{found} in {code.co_qualname}"
