"""Other people's test suites, as their wheels ship them, with only the imported function changed to ours.

The source is found in the installed package, read and compiled; two expressions are changed on the way, and no file of
theirs is copied:

    np.from_dlpack(x, ...)     the consumer's function: `of(np, x, ...)` of the variant
    x.__dlpack__, ..._device__ the producer's methods: those of `producer(x)` of the variant

What a suite then still expects and Freehold does not do is listed with its reason, by the test's name, and must fail.
"""

import ast
import importlib.util
import types
from pathlib import Path


class Ours(ast.NodeTransformer):
    """Puts a variant's functions in the place of theirs."""

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "from_dlpack":
            return ast.Call(ast.Name("_of", ast.Load()), [node.func.value, *node.args], node.keywords)
        return node

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if node.attr not in ("__dlpack__", "__dlpack_device__") or _is_super(node.value):
            return node
        return ast.Attribute(ast.Call(ast.Name("_producer", ast.Load()), [node.value], []), node.attr, node.ctx)


def _is_super(node):
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def theirs(module, variant, of, producer):
    """The tests of a module under names that say the variant: {name: function or class}."""
    package, _, rest = module.partition(".")
    root = Path(importlib.util.find_spec(package).origin).parent
    path = root.joinpath(*rest.split(".")).with_suffix(".py")
    tree = ast.fix_missing_locations(Ours().visit(ast.parse(path.read_text(encoding="utf-8"), str(path))))
    space = types.ModuleType(f"{module}_{variant}")
    space._of, space._producer = of, producer
    exec(compile(tree, str(path), "exec"), space.__dict__)
    tests = {}
    for name, test in list(vars(space).items()):
        # What needs a device that their wheel on this machine has no code for is not ours to skip.
        if name.startswith("test_") and callable(test) and "cuda" not in name:
            tests[f"test_{variant}_{name.removeprefix('test_')}"] = test
        elif name.startswith("Test") and isinstance(test, type):
            tests[f"{name}_{variant}"] = test
    assert tests, f"{path} has no tests"
    return tests
