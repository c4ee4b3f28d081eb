"""Writes all mutants of a source file into it: each function that has any asks at its beginning which one is on trial, and has a body for each.

Where functions stand, what is changed in them and by what is cargo-mutants' list (`--list --json`).
"""

import re
import typing

# Appended to the library. `mutant` is the number on trial (0: none), and tells once of each test which functions it gets to.
ON_TRIAL = """
/// Which mutant is on trial, and which functions the tests get to.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod on_trial {
    use std::cell::RefCell;
    use std::io::Write;
    use std::sync::LazyLock;

    static MUTANT: LazyLock<usize> = LazyLock::new(|| std::env::var("DCI_MUTANT").ok().and_then(|id| id.parse().ok()).unwrap_or(0));
    static SEEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("DCI_MUTANTS_SEEN").ok());
    thread_local! { static MINE: RefCell<Vec<bool>> = const { RefCell::new(Vec::new()) }; }

    pub fn mutant(function: usize) -> usize {
        if let Some(path) = &*SEEN {
            MINE.with_borrow_mut(|mine| {
                mine.resize(mine.len().max(function + 1), false);
                if !std::mem::replace(&mut mine[function], true) {
                    let line = format!("{function} {}\\n", std::thread::current().name().unwrap_or("?"));
                    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
                    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a file of what is seen");
                }
            });
        }
        *MUTANT
    }
}
"""
HEAD = re.compile(r"^\s*(?:pub(?:\([^)]*\))? )?(?:async )?fn \w+", re.MULTILINE)


class Mutant(typing.NamedTuple):
    """One change; `number` is what the test programs are told."""

    number: int
    name: str
    file: str
    function: tuple
    span: tuple
    replacement: str

    @classmethod
    def read(cls, number, listed):
        """From an entry of cargo-mutants' list."""
        at = lambda span: tuple((span[end]["line"], span[end]["column"]) for end in ("start", "end"))
        return cls(number, listed["name"], listed["file"], at(listed["function"]["span"]), at(listed["span"]), listed["replacement"])

    def is_in(self, file, function):
        """Whether it changes something between the ends of a function, which may be around its own."""
        return self.file == file and function[0] <= self.span[0] < function[1]


class Place(typing.NamedTuple):
    """Lines of the written file: those of one mutant's body, or (`mutant` is None) of a whole function."""

    first: int
    last: int
    mutant: int | None
    function: tuple


def functions(mutants):
    """The functions that have mutants, each with them. One inside another is a part of it.

    >>> inner, outer = Mutant(1, "", "", ((3, 5), (5, 6)), ((4, 9), (4, 10)), ""), Mutant(2, "", "", ((1, 1), (9, 2)), ((8, 5), (8, 6)), "")
    >>> [(span, [m.number for m in inside]) for span, inside in functions([inner, outer])]
    [(((1, 1), (9, 2)), [1, 2])]
    """
    found = []
    for first, last in sorted({mutant.function for mutant in mutants}, key=lambda span: (span[0], (-span[1][0], -span[1][1]))):
        if not found or found[-1][0][1] <= first:
            found.append(((first, last), []))
    for mutant in mutants:
        next(inside for (first, last), inside in found if first <= mutant.span[0] < last).append(mutant)
    return found


def write(source, mutants, numbers):
    r"""The source with all of its mutants, and which lines belong to which. `numbers` keeps the number of each function, by file and span.

    >>> source = "/// A fn of ours.\nfn both(a: bool, b: bool) -> bool {\n    a && b\n}\nfn other() {}\n"
    >>> written, places = write(source, [Mutant(7, "", "", ((1, 1), (4, 2)), ((3, 7), (3, 9)), "||")], {})
    >>> print(written, end="")
    /// A fn of ours.
    fn both(a: bool, b: bool) -> bool { match crate::on_trial::mutant(0) {
    7 => {
        a ||  b
    }
    _ => {
        a && b
    }
    } }
    fn other() {}
    >>> [(place.first, place.last, place.mutant) for place in places]
    [(3, 5, 7), (2, 9, None)]
    """
    lines = [0]
    for line in source.split("\n"):
        lines.append(lines[-1] + len(line) + 1)
    offset = lambda at: lines[at[0] - 1] + at[1] - 1
    out, written_to, places = [], 0, []
    line_now = lambda: 1 + sum(part.count("\n") for part in out)
    for span, inside in functions(mutants):
        begin, end = offset(span[0]), offset(span[1])
        # A function's span may begin behind the indentation of its line.
        head = HEAD.search(source, source.rfind("\n", 0, begin) + 1, end)
        opens = source.index("{", head.end(), end)
        out.append(source[written_to:opens])
        function_from = line_now()
        out.append("{ match crate::on_trial::mutant(%d) {\n" % numbers.setdefault((inside[0].file, span), len(numbers)))
        for mutant in inside:
            since = line_now()
            first, last = offset(mutant.span[0]), offset(mutant.span[1])
            out.append(f"{mutant.number} => {source[opens:first]}{mutant.replacement} {source[last:end]}\n")
            places.append(Place(since, line_now() - 1, mutant.number, span))
        out.append(f"_ => {source[opens:end]}\n}} }}")
        places.append(Place(function_from, line_now(), None, span))
        written_to = end
    out.append(source[written_to:])
    return "".join(out), places

