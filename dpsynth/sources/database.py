"""Which table or query of a PostgreSQL database is meant, without its password.

A password may stand in the address, but is taken out of it before anything else reads it: it is in no name, `repr`,
message or ledger.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from dpsynth.errors import FileError, InputError
from dpsynth.sources.query_text import one_query

__all__ = ["Database", "database_of", "is_database", "without_password"]

_SCHEME = re.compile(r"postgres(?:ql)?://")
_SIGNED = re.compile(r"(postgres(?:ql)?://[^:@/?\[]*):(.*)@", re.DOTALL)
"""A user and a password before the last @."""
_PORT = re.compile(r"\d*(?:[/?]|::|,)")
_PARAMETER = re.compile(r"(?<=[?&])password=([^&]*)")
_RELATION = re.compile(r"(?<!=)::")
_LONGEST_QUERY = 2**20


@dataclass(frozen=True)
class Database:
    """A table, a view or a query of a PostgreSQL database; nothing is connected yet.

    Attributes
    ----------
    address
        ``postgresql://user@host:port/database``, without a password.
    relation
        The table or view, with its schema before a point; empty where there is a query.
    query
        The text of the query; empty where there is a relation.
    name
        What messages call it: the relation, or the file of the query.
    password
        What stood in the address; never shown.
    """

    address: str
    relation: str = ""
    query: str = ""
    name: str = "database"
    password: str | None = field(default=None, repr=False, compare=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """The schema, where it is named, and the table or view, as the catalogue has them."""
        texts = re.findall(r'"((?:[^"]|"")+)"|([^."]+)', self.relation)
        return tuple(quoted.replace('""', '"') or plain for quoted, plain in texts)

    @property
    def sql(self) -> str:
        """The query, or one that reads the relation."""
        return self.query or f"SELECT * FROM {'.'.join(map(quoted, self.parts))}"  # noqa: S608  (names are quoted)


def quoted(name: str) -> str:
    """Return a name as SQL writes it.

    >>> quoted('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def is_database(text: object) -> bool:
    """Return whether a text is the address of a PostgreSQL database."""
    return isinstance(text, str) and _SCHEME.match(text) is not None


def without_password(text: str) -> tuple[str, str | None]:
    """Return an address without the password in it, and the password, if there is one.

    >>> without_password("postgresql://steward:p@ss@db/ehr::visits")
    ('postgresql://steward@db/ehr::visits', 'p@ss')
    >>> without_password("postgresql://db:5432/ehr::a@b")
    ('postgresql://db:5432/ehr::a@b', None)
    """
    passwords = []
    if (signed := _SIGNED.match(text)) and not _PORT.match(signed[2]):
        passwords.append(signed[2])
        text = f"{signed[1]}@{text[signed.end() :]}"
    passwords += _PARAMETER.findall(text)
    text = re.sub(r"&(?=&|$)", "", _PARAMETER.sub("", text).replace("?&", "?")).removesuffix("?")
    return text, unquote(passwords[-1]) if passwords else None


def database_of(address: str, query: str | Path | None = None) -> Database:
    """Return what an address means, with the query that a person gives.

    Parameters
    ----------
    address
        ``postgresql://user@host:port/database``, with ``::table``, ``::schema.table`` or nothing behind it. What is
        left out is taken from the environment and from service and password files, as PostgreSQL's own programs do.
    query
        The text of a query, or the path of a file that holds it.

    Raises
    ------
    InputError, FileError
        If neither or both of a table and a query are named, or the query cannot be read or is not one SELECT.
    """
    address, password = without_password(address)
    if "sslpassword=" in address:
        raise InputError("sslpassword: is not taken from an address; put it in a service file (~/.pg_service.conf).")
    marks = list(_RELATION.finditer(address, address.find("]") + 1))
    relation = address[marks[-1].end() :] if marks else ""
    database = Database(address[: marks[-1].start()] if marks else address, relation, password=password)
    if relation and query is None:
        if not 1 <= len(database.parts) <= 2:
            raise InputError("relation: expected ::table or ::schema.table behind the address of the database.")
        return replace(database, name=".".join(database.parts))
    if relation or query is None:
        found = "a table and a query" if relation else "neither a table nor a query"
        raise InputError(
            f"database: {found} of it is named; name one, ::schema.table behind the address, or --query with a file."
        )
    text, name = _query(query)
    return replace(database, query=one_query(text, name), name=name)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a long text, or one of several lines
        return False


def _query(query: str | Path) -> tuple[str, str]:
    """Return the text of a query and what it is called."""
    path = Path(query)
    if isinstance(query, str) and re.search(r"\s", query.strip()) and not _is_file(path):
        return query, "query"
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_QUERY + 1)
    except OSError as error:
        raise FileError(f"{path.name}: the query cannot be read ({error.strerror or 'unknown reason'}).") from None
    if len(text) > _LONGEST_QUERY:
        raise InputError(f"{path.name}: is far longer than a query; give the file of the query, not the data.")
    try:
        return text.decode("utf-8-sig"), path.name
    except UnicodeDecodeError:
        raise InputError(f"{path.name}: is not text in UTF-8; expected a query.") from None
