"""python -m freehold doctor | demo | view LEDGER.json [--html PAGE.html] | flowchart [SOURCE TARGET] | --include | --cmakedir"""

import argparse
import runpy
import sys
from pathlib import Path

from . import BoundaryError, _freehold, get_cmake_dir, get_include


def doctor(options):
    """What is installed, by which road its tensors come and go, what is in force, and what is wrong (then exit status 1)."""
    from . import _doctor

    return _doctor.main(options.import_them, options.json)


def flowchart(options):
    """Which verb to use, for a source and a target: computed by asking the code that decides."""
    pairs = [(options.source, options.target)] if options.target else [("numpy", "torch"), ("torch", "numpy")]
    print("\n".join(_freehold._flowchart(source, target) for source, target in pairs).rstrip())
    return 0


def demo(_):
    """Runs docs/examples/demo/demo.py of the checkout that this package was built from, or of the current folder."""
    places = [Path.cwd(), *Path(__file__).resolve().parents]
    for place in places:
        script = place / "docs" / "examples" / "demo" / "demo.py"
        if script.is_file():
            runpy.run_path(str(script), run_name="__main__")
            return 0
    print("the demo is docs/examples/demo/demo.py of a checkout: run this there, or `make demo`", file=sys.stderr)
    return 1


def view(options):
    """A saved ledger in words, or with --html or --to as a page or in another format."""
    source = Path(options.ledger)
    try:
        text = source.read_text(encoding="utf-8")
        for path in filter(None, (options.html, options.to)):
            _freehold._save_again(text, path)
            print(f"{path}: {Path(path).stat().st_size:,} bytes")
        if not (options.html or options.to):
            print(_freehold._view(text), end="")
    except UnicodeDecodeError:
        print(f"{source} is not a saved ledger: it is not text", file=sys.stderr)
        return 1
    except BoundaryError:
        raise
    except ValueError as error:
        print(f"{source}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


class _Print(argparse.Action):
    """Prints what a function gives, and ends, as --version does."""

    def __init__(self, *names, function, **rest):
        super().__init__(*names, nargs=0, **rest)
        self.function = function

    def __call__(self, parser, *_):
        print(self.function())
        parser.exit()


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m freehold", description="Many libraries, one memory space.")
    for option, function in (("--include", get_include), ("--cmakedir", get_cmake_dir)):
        parser.add_argument(option, action=_Print, function=function, help=function.__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function in (doctor, demo, view, flowchart):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.set_defaults(function=function)
        if function is doctor:
            command.add_argument("--import", dest="import_them", action="store_true", help="imports what is installed")
            command.add_argument("--json", action="store_true", help="for a program")
        if function is view:
            command.add_argument("ledger", metavar="LEDGER.json", help="what fh.ledger.save(\"x.json\") wrote")
            command.add_argument("--html", metavar="PAGE.html", help="write the page")
            command.add_argument("--to", metavar="FILE", help="write another format, by how its name ends")
        if function is flowchart:
            command.add_argument("source", nargs="?", default="numpy")
            command.add_argument("target", nargs="?")
    options = parser.parse_args(arguments)
    try:
        return options.function(options)
    except BoundaryError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
