"""Tries the mutants that cargo-mutants lists, all of them in one build: building the crate once for each would take hours.

usage: python3 deploy/ci/mutants LIST RESULTS TESTS…, in a copy of the tree, which it changes
LIST is what `cargo mutants --list --json` printed, TESTS is --lib, --test=decisions and the like.
RESULTS (JSON) names each mutant with what came of it: caught, timeout, missed, untried (not to the end), or broken where it does not compile.
What it says already stands, but for what is missed or untried. Fails where fewer of a hundred are noticed than DCI_MUTANTS_GOAL.
"""

import collections
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import time

import rewrite
import trial

CARGO = os.environ.get("CARGO", "cargo")
BUILD = ["--profile=mutants", "--no-default-features", "--locked", "--message-format=json"]
# After so many seconds no further mutant is tried (0: all are).
SECONDS = int(os.environ.get("DCI_MUTANTS_SECONDS") or 0)
GOAL = int(os.environ.get("DCI_MUTANTS_GOAL") or 0)
BEGAN = time.monotonic()


def say(text):
    print(f"{text} ({time.monotonic() - BEGAN:.0f} s)", flush=True)


def cargo(*arguments):
    """Whether a build worked, and what was said: its messages, and its errors as text."""
    run = subprocess.run([CARGO, *arguments, *BUILD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    said = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    return run.returncode == 0, said, run.stderr


def lines(message):
    """The lines that an error names, and those that call the macros it is in: [(file, line)]."""
    for span in message["spans"]:
        while span:
            yield span["file_name"], span["line_start"]
            span = (span["expansion"] or {}).get("span")


def blamed(message, places, mutants):
    """The numbers of the mutants that a compiler's error is about: those whose lines it names, else all of the function."""
    near = [(file, place) for file, line in lines(message) for place in places.get(file, ()) if place.first <= line <= place.last]
    named = {place.mutant for _, place in near if place.mutant}
    return named or {mutant.number for mutant in mutants for file, place in near if mutant.is_in(file, place.function)}


def build(mutants, tests):
    """Builds the test programs with all mutants that compile: those that do not, the number of each function, the programs."""
    files = collections.defaultdict(list)
    for mutant in mutants:
        files[mutant.file].append(mutant)
    sources = {file: pathlib.Path(file).read_text() for file in files}
    library = pathlib.Path("src/lib.rs")
    library.write_text(library.read_text() + rewrite.ON_TRIAL)
    broken, numbers, places = set(), {}, {}
    # What does not compile is known sooner without making programs. Later passes of the compiler see only what earlier ones let through.
    task = ["check", "--lib"]
    while True:
        for file, source in sources.items():
            written, places[file] = rewrite.write(source, [m for m in files[file] if m.number not in broken], numbers)
            pathlib.Path(file).write_text(written)
        worked, said, errors = cargo(*task)
        if worked and task[0] == "test":
            return broken, numbers, [message["executable"] for message in said if message.get("executable")]
        if worked:
            task = ["test", "--no-run", *tests]
            continue
        wrong = [m["message"] for m in said if m["reason"] == "compiler-message" and m["message"]["level"] == "error"]
        more = set().union(*(blamed(message, places, mutants) for message in wrong)) - broken
        if not more:
            sys.exit("\n".join(["error: the tree does not compile", errors, *(message["rendered"] for message in wrong)]))
        broken |= more


def report(results):
    """Counts, and what was missed. Whether enough was noticed."""
    count = collections.Counter(results.values())
    noticed, missed, untried = count["caught"] + count["timeout"], count["missed"], count["untried"]
    say(f"mutants: {noticed} caught ({count['timeout']} by time), {missed} missed, {untried} not tried to the end, {count['broken']} do not compile")
    print("".join(f"  missed: {name}\n" for name, what in sorted(results.items()) if what == "missed"), end="")
    if everything := noticed + missed + untried:
        print(f"caught: {100 * noticed / everything:.1f} %")
    return 100 * noticed >= GOAL * everything


def try_all(waiting, results, kept):
    """Tries mutants, all of them with one part of their tests after the other: what most tests notice costs little, and what is missed
    shows early. `waiting` is [(mutant, [part])]; `results` are kept after each round.
    """

    def try_one(waits):
        late = SECONDS and time.monotonic() - BEGAN > SECONDS
        return "untried" if late else trial.outcome(waits[0].number, waits[1][0])

    with concurrent.futures.ThreadPoolExecutor(trial.JOBS) as pool:
        while True:
            results.update({mutant.name: "missed" for mutant, _ in waiting})
            kept.write_text(json.dumps(results, indent=1, sort_keys=True))
            waiting = [(mutant, parts) for mutant, parts in waiting if parts]
            if not waiting:
                break
            say(f"{len(waiting)} mutants are tried")
            outcomes = list(pool.map(try_one, waiting))
            for (mutant, _), outcome in zip(waiting, outcomes):
                results[mutant.name] = outcome
            waiting = [(mutant, parts[1:]) for (mutant, parts), outcome in zip(waiting, outcomes) if outcome == "missed"]


def main():
    listed, kept, tests = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute(), sys.argv[3:]
    mutants = [rewrite.Mutant.read(number, entry) for number, entry in enumerate(json.loads(listed.read_text()), 1)]
    # Of lines that have moved nothing is known.
    known = json.loads(kept.read_text()) if kept.exists() else {}
    results = {mutant.name: known[mutant.name] for mutant in mutants if mutant.name in known}
    mutants = [mutant for mutant in mutants if results.get(mutant.name, "missed") in {"missed", "untried"}]
    broken, numbers, programs = build(mutants, tests)
    results.update({mutant.name: "broken" for mutant in mutants if mutant.number in broken})
    mutants = [mutant for mutant in mutants if mutant.number not in broken]
    say(f"{len(mutants)} mutants are built, {len(broken)} do not compile")
    reached = collections.defaultdict(set)
    for program in programs:
        for function, found in trial.reached(program, kept.with_suffix(".seen")).items():
            reached[function] |= found
    say("which test gets to which function is known")
    function_of = lambda mutant: next(number for (file, span), number in numbers.items() if mutant.is_in(file, span))
    try_all([(mutant, list(trial.parts(reached[function_of(mutant)]))) for mutant in mutants], results, kept)
    sys.exit(not report(results))


main()
