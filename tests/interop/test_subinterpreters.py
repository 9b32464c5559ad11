"""A sub-interpreter gets an ImportError, whichever interpreter comes first, and the main one goes on as it was."""

import pytest

from producers import assert_runs

PROGRAM = """if True:
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters

    def use():
        import numpy
        import freehold
        a = numpy.arange(3.0)
        t = freehold.share(a)
        a[0] = 7
        assert memoryview(t)[0] == 7.0

    {before}
    sub = interpreters.create()
    seen = interpreters.run_string(sub, '''if True:
        import sys
        sys.path[:0] = {path!r}
        for _ in range(2):
            try:
                import freehold
            except ImportError as error:
                assert "interpreter" in str(error), error
            else:
                raise AssertionError("it was imported")
            assert "freehold" not in sys.modules
    ''')
    # From 3.13 on, an exception comes back as a value.
    assert seen is None, seen
    interpreters.destroy(sub)
    {after}
"""


@pytest.mark.parametrize("main_first", [True, False])
def test_a_sub_interpreter_is_told_that_it_cannot_have_it(main_first):
    import sys

    uses = {"before": "use()", "after": "use()"} if main_first else {"before": "", "after": ""}
    assert_runs(PROGRAM.format(path=sys.path, **uses))
