"""Runs the tests against one mutant: those that get to the function that it is in, the quickest first, until one fails."""

import collections
import json
import os
import subprocess
import sys
import typing

JOBS = int(os.environ.get("DCI_MUTANTS_JOBS") or os.cpu_count() or 1)
# Seconds that a part of the tests may take beyond ten times what it took with nothing made wrong: one that goes round for ever is noticed.
PATIENCE = 20
# Seconds of the first part, and how much longer each next one is: most mutants are noticed in the first.
FIRST, GROWTH = 0.2, 4
# Bytes. Bodies for each mutant make the frames of functions larger than a thread's stack.
STACK = 64 << 20


class Test(typing.NamedTuple):
    """A test of a test program, and how many seconds it takes."""

    seconds: float
    program: str
    name: str


def environment(**more):
    """libtest lets itself be told to stop at the first failure only where the compiler's unstable options are allowed."""
    return {**os.environ, "RUSTC_BOOTSTRAP": "1", "RUST_MIN_STACK": str(STACK), "RUST_BACKTRACE": "0", **more}


def reached(program, seen):
    """The tests of a program that get to each function: {function: [Test]}. They have to pass."""
    seen.unlink(missing_ok=True)
    # Two threads at least: the only one would have no test's name.
    command = [program, "-Zunstable-options", "--format=json", "--report-time", f"--test-threads={max(JOBS, 2)}"]
    run = subprocess.run(command, env=environment(DCI_MUTANTS_SEEN=str(seen)), stdout=subprocess.PIPE, text=True, check=False)
    events = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    failed = [event["name"] for event in events if event["type"] == "test" and event["event"] == "failed"]
    if run.returncode != 0:
        sys.exit(f"error: {program} fails with nothing made wrong: {', '.join(failed)}")
    tests = {event["name"]: Test(event["exec_time"], program, event["name"]) for event in events if event["type"] == "test" and event["event"] == "ok"}
    found = collections.defaultdict(set)
    for function, test in (line.split(" ", 1) for line in (seen.read_text().splitlines() if seen.exists() else ())):
        # A thread that a test began has no name: each test may have been it.
        found[int(function)].update([tests[test]] if test in tests else tests.values())
    return found


def parts(tests):
    """The tests in parts, each of one program: the quickest first, and the parts longer and longer.

    >>> quick, slow, other = Test(0.1, "a", "quick"), Test(3.0, "a", "slow"), Test(0.05, "b", "other")
    >>> [[test.name for test in part] for part in parts([slow, quick, other])]
    [['other'], ['quick'], ['slow']]
    """
    most, now, sums = FIRST, {}, 0.0
    for test in sorted(tests):
        if now and sums + test.seconds > most:
            yield from now.values()
            most, now, sums = most * GROWTH, {}, 0.0
        now.setdefault(test.program, []).append(test)
        sums += test.seconds
    yield from now.values()


def outcome(mutant, part):
    """What comes of a mutant in a part of the tests: `caught`, `timeout` (noticed, too) or `missed`."""
    command = [part[0].program, "-Zunstable-options", "--fail-fast", "--test-threads=1", "--exact", *(test.name for test in part)]
    limit = 10 * sum(test.seconds for test in part) + PATIENCE
    try:
        run = subprocess.run(command, env=environment(DCI_MUTANT=str(mutant)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return "timeout"
    return "missed" if run.returncode == 0 else "caught"
