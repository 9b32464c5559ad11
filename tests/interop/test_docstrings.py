"""Every public name says what it is for, with an example that runs and prints what it shows."""

import doctest
import inspect
import pydoc

import pytest

import freehold as fh

NAMES = [*fh.__all__, "get_include", "get_cmake_dir"]
CLASSES = {"Tensor": fh.Tensor, "Decision": fh.Decision, "ledger": type(fh.ledger), "policy": type(fh.policy())}


def doc_of(name):
    value = getattr(fh, name)
    return (type(value) if name == "ledger" else value).__doc__


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_run_and_print_what_they_show(name):
    test = doctest.DocTestParser().get_doctest(doc_of(name), {"fh": fh}, name, None, 0)
    assert len(test.examples) >= 1, f"{name} shows no example"
    told = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    failed, tried = runner.run(test, out=told.append)
    assert failed == 0 and tried >= 1, "".join(told)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_is_a_sentence(name):
    first = doc_of(name).strip().splitlines()[0]
    assert (first[0].isupper() or first.startswith(name)) and len(first) <= 140, first


@pytest.mark.parametrize("name", CLASSES)
def test_every_attribute_has_a_line(name):
    members = vars(CLASSES[name])
    public = [key for key in members if not key.startswith("_")]
    assert public
    assert [key for key in public if not (members[key].__doc__ or "").strip()] == []


@pytest.mark.parametrize("name", ["share", "convert", "copy", "plan", "from_dlpack", "explain"])
def test_help_names_every_parameter(name):
    verb = getattr(fh, name)
    shown = pydoc.plain(pydoc.render_doc(verb))
    signature = inspect.signature(verb)
    assert f"{name}({', '.join(str(p) for p in signature.parameters.values() if p.kind is p.POSITIONAL_ONLY)}" in shown
    for key, parameter in signature.parameters.items():
        assert key in shown
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert parameter.default is not parameter.empty
    # What a keyword means is said where it is taken, or in the verb that this one refers to.
    text = {"plan": fh.convert.__doc__ + fh.share.__doc__, "copy": fh.copy.__doc__ + fh.convert.__doc__ + fh.share.__doc__}
    text = text.get(name, verb.__doc__ + (fh.share.__doc__ if name == "convert" else ""))
    for key in signature.parameters:
        assert f"{key}:" in text or f"{key}," in text or key in ("x", "y", "copy"), f"{name} does not explain {key}"
