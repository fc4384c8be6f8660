"""The text of a query that a person gives: one statement that reads, told apart from its comments and strings.

PostgreSQL itself has the last word: the same text must be accepted as one prepared statement, in a transaction that can
only read.
"""

import re
from collections.abc import Iterator

from dpsynth.errors import InputError

__all__ = ["one_query"]

_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*)
    |(?P<open>/\*)
    |(?P<text>[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")*")
    |(?P<dollar>(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag))
    |(?P<parameter>\$\d+)
    |(?P<word>\w[\w$]*)
    |(?P<blank>\s+)
    |(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_ENDS = (";",)
_BEGINNINGS = ("select", "with", "table", "values")


def one_query(text: str, name: str) -> str:
    r"""Return the one statement of a text, without the semicolon and what follows it.

    Parameters
    ----------
    text
        SQL, with comments.
    name
        What the text is called in messages.

    Raises
    ------
    InputError
        If it is empty, more than one statement, or does not begin with SELECT, WITH, TABLE or VALUES.

    Examples
    --------
    >>> one_query("select ';' as mark -- all;\n from ward; -- done", "cohort.sql")
    "select ';' as mark -- all;\n from ward"
    """
    if "\0" in text:
        raise InputError(f"{name}: is not the text of a query; it holds a byte that no text has.")
    end, depth, first = len(text), 0, ""
    for kind, piece, start in _tokens(text, name):
        if kind in ("blank", "comment"):
            continue
        if kind == "parameter":
            raise InputError(f"{name}: has a place for a parameter ({piece}); write the value in its place.")
        if piece in _ENDS:
            end = min(end, start)
            continue
        if end < len(text):
            raise InputError(f"{name}: holds more than one statement; give one SELECT, and nothing behind it.")
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if depth < 0:
            raise InputError(f"{name}: a bracket is closed that was not opened; correct the query.")
        first = first or ("" if piece in "()" else piece.lower())
    if not first:
        raise InputError(f"{name}: holds no query; give one SELECT.")
    if first not in _BEGINNINGS or depth:
        what = "a bracket is not closed" if depth else "begins with another word than SELECT, WITH, TABLE or VALUES"
        raise InputError(f"{name}: {what}; give one query that reads the rows of patients.")
    return text[:end]


def _tokens(text: str, name: str) -> Iterator[tuple[str, str, int]]:
    """Yield kind, text and place of each token; comments may lie in each other, as in PostgreSQL."""
    place = 0
    while match := _TOKEN.match(text, place):
        kind, place = match.lastgroup or "", match.end()
        if kind == "open":
            place = _comment_end(text, place, name)
            kind = "comment"
        if kind == "mark" and match[0] in "'\"":
            raise InputError(f"{name}: a quotation mark is not closed; correct the query.")
        yield kind, match[0], match.start()


def _comment_end(text: str, place: int, name: str) -> int:
    depth = 1
    for match in _COMMENT.finditer(text, place):
        depth += 1 if match[0] == "/*" else -1
        if not depth:
            return match.end()
    raise InputError(f"{name}: a comment is not closed; correct the query.")
