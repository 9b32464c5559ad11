"""numpy/numpy#22507: the deleter of an array's capsule called into Python without the GIL, from threads that had none and after
the interpreter was gone, which crashed the process."""

import json
import subprocess
import sys
import textwrap

PROGRAM = """
    import atexit, json, sys
    sys.path[:0] = {path!r}
    import ctypes

    late, report = [], {{}}

    @atexit.register  # registered before ours, so it runs after: the interpreter is on its way out
    def last():
        import freehold as fh
        for managed in late:
            call_on_foreign_thread(*managed)
        report["counters"] = {{row["name"]: row["count"] for row in fh.ledger.stats()["counters"]}}
        report["hazards"] = fh.ledger.hazards()
        print(json.dumps(report))

    import numpy as np
    import freehold as fh
    from producers import call_on_foreign_thread, take

    fh.ledger.level = 3
    array = np.arange(4.0)

    def consume(x):
        late.append(take(x.__dlpack__()))

    consume.__globals__["__name__"] = "consumer"
    consume(fh.share(array))
"""


def test_no_crash_and_the_late_holder_is_named():
    program = textwrap.dedent(PROGRAM.format(path=sys.path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["counters"]["leaked_at_shutdown"] == 1, "left alone, and counted"
    (hazard,) = report["hazards"]
    assert hazard["code"] == "CP03" and "shutting down" in hazard["note"]
    owner, holder = hazard["holders"]
    assert owner["framework"] == "numpy" and holder["framework"] == "consumer"
    line = 1 + next(i for i, text in enumerate(program.splitlines()) if "x.__dlpack__()" in text)
    assert holder["site"] == f"<string>:{line} in consume"
