"""What the scripts beside this one share: a library that answers requests line by line, as the programs of ours do."""

import importlib.metadata
import json
import os
import sys
import time


class NotRun(Exception):
    """Why a case was left out."""


def repeated(request, run):
    """Seconds of as many runs as the request allows, at least one, and the result of the last."""
    seconds, out = [], None
    while not seconds or len(seconds) < request.get("repeats", 1) and sum(seconds) < request.get("seconds", 0.0):
        start = time.perf_counter()
        out = run()
        seconds.append(time.perf_counter() - start)
    return seconds, out


def serve(make, packages, answer):
    """Prints one JSON line with the versions of the packages, then answers each JSON line on the input until it ends."""
    # Libraries print as they please; the answers have a channel of their own.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    library, held = make(), {}
    versions = {name: importlib.metadata.version(name) for name in packages}
    print(json.dumps({"versions": {**versions, "Python": sys.version.split()[0]}}), file=out, flush=True)
    for line in sys.stdin:
        try:
            reply = answer(library, held, json.loads(line))
        except NotRun as reason:
            reply = {"status": "not run", "note": str(reason)}
        except Exception as error:
            reply = {"status": "failed", "note": f"{type(error).__name__}: {error}".split("\n")[0]}
        print(json.dumps(reply), file=out, flush=True)
