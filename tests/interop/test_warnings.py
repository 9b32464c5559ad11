"""BoundaryWarning: at the caller's line, once a line and not once a process, whatever numbers are in the text."""

import pickle
import subprocess
import sys
import textwrap
import threading
import warnings

import numpy as np
import pytest

import freehold as fh
from row_tools import read_only


def backwards(size=3):
    return np.arange(float(size))[::-1]


def line_of(function):
    """The only line of a function that is no `def`."""
    return function.__code__.co_firstlineno + 1


def one_site(x):
    return fh.convert(x, "torch")


def another_site(x):
    return fh.convert(x, "torch")


@pytest.fixture
def shown():
    """What Python's default filter shows: once a line. Other tests' warnings have left nothing in this module's registry."""
    globals().pop("__warningregistry__", None)
    with warnings.catch_warnings(record=True) as caught, fh.policy(copies="warn"):
        warnings.simplefilter("default")
        yield caught


def test_two_sites_warn_once_each_and_name_their_lines(shown):
    for _ in range(3):
        one_site(backwards())
        another_site(backwards())
    assert [(w.filename, w.lineno) for w in shown] == [(__file__, line_of(one_site)), (__file__, line_of(another_site))]
    assert all(w.category is fh.BoundaryWarning for w in shown)
    assert str(shown[0].message) == "24 B copied (layout): ST01, HT01"


def test_a_loop_over_sizes_warns_once(shown):
    for size in range(3, 9):
        one_site(backwards(size))
    assert [str(w.message) for w in shown] == ["24 B copied (layout): ST01, HT01"]


def test_another_reason_at_the_same_line_is_another_warning(shown):
    one_site(backwards())
    one_site(read_only(np.arange(3.0)))
    one_site(backwards())
    assert ["ST01" in str(w.message) for w in shown] == [True, False] and "RO01" in str(shown[1].message)


def test_a_thread_warns_at_its_own_line_and_not_again(shown):
    def work():
        with fh.policy(copies="warn"):
            another_site(backwards())

    one_site(backwards())
    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [w.lineno for w in shown] == [line_of(one_site), line_of(another_site)]


def test_always_shows_every_one_with_its_own_numbers(shown):
    warnings.simplefilter("always")
    for size in (3, 4):
        one_site(backwards(size))
    assert [str(w.message).split()[0] for w in shown] == ["24", "32"]


def test_as_errors_they_are_raised_and_nothing_stays_open():
    mark = fh.ledger.mark()
    with warnings.catch_warnings(), fh.policy(copies="warn"):
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(fh.BoundaryWarning, match="24 B copied"):
                one_site(backwards())
    assert fh.ledger.leaks(since=mark) == []


def test_called_by_c_the_line_is_still_that_of_python(shown):
    list(map(fh.convert, [backwards(), backwards(4)], ["torch", "torch"]))
    assert [(w.filename, "24 B copied" in str(w.message)) for w in shown] == [(__file__, True)]


def test_a_frame_that_is_shared_by_two_calls_of_one_line_counts_once(shown):
    [fh.convert(backwards(), "torch") for _ in range(2)]; fh.convert(backwards(), "torch")  # noqa: E702
    assert len(shown) == 1


def test_the_text_of_a_warning_is_plain_text_elsewhere(shown):
    one_site(backwards())
    message = shown[0].message
    again = pickle.loads(pickle.dumps(message))
    assert type(again) is fh.BoundaryWarning and type(again.args[0]) is str and str(again) == str(message)
    assert f"{message}" == "24 B copied (layout): ST01, HT01" and str(message) == "24 B copied (layout): ST01, HT01"


def test_from_the_command_line():
    program = textwrap.dedent("""
        import numpy as np
        import freehold as fh
        fh.policy(copies="warn")
        for size in (3, 4, 5):
            fh.convert(np.zeros(size)[::-1], "numpy", order="C")
        fh.convert(np.zeros(3)[::-1], "numpy", order="C")
    """)
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr.count("BoundaryWarning") == 2, done.stderr
    done = subprocess.run([run[0], "-W", "error::UserWarning", *run[1:]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "freehold.BoundaryWarning: 24 B copied" in done.stderr.splitlines()[-1]
    done = subprocess.run([run[0], "-W", "ignore", *run[1:]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == ""
