"""Exact contingency tables of private codes: fast, bounded in memory, and never released as they are.

Rows are read in chunks that fit the processor's cache. A marginal of a chunk is one `numpy.bincount` of the combined
codes. Many marginals of two columns are cheaper as one matrix product of the one-hot coded columns with itself.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.query import Key, Query

Codes = Mapping[str, NDArray[np.unsignedinteger]]

CHUNK = 2**16
# One cell of the Gram matrix costs about as much as 1/300 of a marginal by bincount (measured on two cores).
GRAM_RATIO = 300
GRAM_WIDTH = 4096


def fine_query(columns: Sequence[str], sizes: Mapping[str, int]) -> Query:
    """Return the marginal of these columns over their finest cells.

    Parameters
    ----------
    columns
        Names of modelled columns.
    sizes
        The number of codes of each, as `dpsynth.coding.codec.Codec.shape`.

    Returns
    -------
    Query
        Its maps leave every code as it is.

    Examples
    --------
    >>> fine_query(["sex", "age"], {"sex": 2, "age": 64}).shape
    (2, 64)
    """
    return Query(tuple(columns), tuple(np.arange(sizes[name]) for name in columns))


def coarsened(table: NDArray[np.int64], query: Query) -> NDArray[np.int64]:
    """Return the table of a query, added up from the table of its columns over their finest cells.

    Parameters
    ----------
    table
        Counts of the columns' finest cells.
    query
        Of the same columns, in the same order.

    Returns
    -------
    int64 array
        Of the query's shape. **As exact as the table: internal to the kernel where that is.**

    Examples
    --------
    >>> coarsened(np.array([3, 4, 5]), Query(("age",), (np.array([0, 0, 1]),))).tolist()
    [7, 5]
    """
    for axis, (mapping, cells) in enumerate(zip(query.maps, query.shape, strict=True)):
        coarse = np.zeros((*table.shape[:axis], cells, *table.shape[axis + 1 :]), dtype=np.int64)
        np.add.at(np.moveaxis(coarse, axis, 0), mapping, np.moveaxis(table, axis, 0))
        table = coarse
    return table.copy()


def contingency(codes: Codes, rows: int, queries: Sequence[Query]) -> list[NDArray[np.int64]]:
    """Count every query's cells.

    Parameters
    ----------
    codes
        Fine codes of each column, each of shape (rows,).
    rows
        Number of rows.
    queries
        What to count.

    Returns
    -------
    list of int64 arrays
        One of each query's shape. **Exact: internal to the kernel.**

    Examples
    --------
    >>> codes = {"sex": np.array([0, 1, 1], dtype=np.uint8)}
    >>> contingency(codes, 3, [fine_query(["sex"], {"sex": 2})])[0].tolist()
    [1, 2]
    """
    unique = {q.keys: q for q in queries}
    pairs = [q for q in unique.values() if len(q.columns) == 2]
    tables: dict[tuple[Key, ...], NDArray[np.int64]] = {}
    if _gram_pays(pairs):
        tables = _gram(codes, rows, pairs)
    rest = [q for k, q in unique.items() if k not in tables]
    small = [q for q in rest if q.size <= CHUNK // 4]
    tables |= _bincounts(codes, rows, small, CHUNK)
    tables |= _bincounts(codes, rows, [q for q in rest if q.size > CHUNK // 4], 16 * CHUNK)
    return [tables[q.keys].copy() for q in queries]


def _bincounts(codes: Codes, rows: int, queries: list[Query], chunk: int) -> dict[tuple[Key, ...], NDArray[np.int64]]:
    """Count query by query within each chunk, so that a column's coarse codes are made once and stay in the cache."""
    flat = {q.keys: np.zeros(q.size, dtype=np.int64) for q in queries}
    maps = _maps(queries)
    for start in range(0, rows if queries else 0, chunk):
        part = slice(start, min(start + chunk, rows))
        coarse = {key: maps[key][codes[key[0]][part]] for key in maps}
        for q in queries:
            flat[q.keys] += _count(q, coarse, part.stop - part.start)
    return {q.keys: flat[q.keys].reshape(q.shape) for q in queries}


def _count(query: Query, coarse: Mapping[Key, NDArray[np.int64]], rows: int) -> NDArray[np.int64]:
    """Count one query in one chunk."""
    if not query.columns:
        return np.array([rows], dtype=np.int64)
    keys, shape = query.keys, query.shape
    index = coarse[keys[0]]
    for key, size in zip(keys[1:], shape[1:], strict=True):
        index = index * size
        index += coarse[key]
    return np.bincount(index, minlength=query.size)


def _maps(queries: Sequence[Query]) -> dict[Key, NDArray[np.int64]]:
    return {k: m.astype(np.int64) for q in queries for k, m in zip(q.keys, q.maps, strict=True)}


def _widths(pairs: Sequence[Query]) -> dict[Key, int]:
    return {k: size for q in pairs for k, size in zip(q.keys, q.shape, strict=True)}


def _gram_pays(pairs: Sequence[Query]) -> bool:
    width = sum(_widths(pairs).values())
    return 0 < width <= GRAM_WIDTH and width**2 < GRAM_RATIO * len(pairs)


def _gram(codes: Codes, rows: int, pairs: Sequence[Query]) -> dict[tuple[Key, ...], NDArray[np.int64]]:
    """Count all pairs at once as the product of the one-hot matrix with itself.

    Sums of ones in float32 are exact up to 2^24, far above the rows of a chunk.
    """
    widths = _widths(pairs)
    offset = dict(zip(widths, np.cumsum([0, *widths.values()]).tolist(), strict=False))
    total = np.zeros((sum(widths.values()),) * 2, dtype=np.int64)
    for hot in _one_hot(codes, rows, _maps(pairs), offset, total.shape[0]):
        total += (hot @ hot.T).astype(np.int64)
    return {q.keys: total[_span(q.keys[0], offset, widths), _span(q.keys[1], offset, widths)].copy() for q in pairs}


def _span(key: Key, offset: Mapping[Key, int], widths: Mapping[Key, int]) -> slice:
    return slice(offset[key], offset[key] + widths[key])


def _one_hot(
    codes: Codes, rows: int, maps: Mapping[Key, NDArray[np.int64]], offset: Mapping[Key, int], width: int
) -> Iterator[NDArray[np.float32]]:
    """Yield the one-hot matrix of each chunk, of shape (width, rows of the chunk), in one reused buffer."""
    chunk = min(rows, CHUNK // 4) or 1
    buffer = np.zeros((width, chunk), dtype=np.float32)
    for start in range(0, rows, chunk):
        stop = min(start + chunk, rows)
        hot, position = buffer[:, : stop - start], np.arange(stop - start)
        hot[:] = 0
        for key, mapping in maps.items():
            hot[offset[key] + mapping[codes[key[0]][start:stop]], position] = 1
        yield hot
