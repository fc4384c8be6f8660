"""Questions for sums, in the two forms that they have: as a session asks them and as a message says them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dpsynth.coding.query import Query
from dpsynth.errors import InputError
from dpsynth.federated.messages import Kind, Question, lengths_of
from dpsynth.privacy.images.features import Division, Features, Fourier, Linear, Ones, Squares
from dpsynth.privacy.mechanisms import MAX_SIGMA

if TYPE_CHECKING:
    from dpsynth.privacy.session import Session

MOST_QUERIES = 2**15
SAME = 1e-6


@dataclass(frozen=True, eq=False)
class Asked:
    """A question for sums: queries with their noise, and features where it is about images.

    Parameters
    ----------
    kind
        One of `dpsynth.federated.messages.SUMS`.
    queries
        What is counted, or the groups of images.
    sigmas
        Standard deviation of the noise of each, as the session that asks it says.
    features
        The public map of images.
    division
        The public division of each group's images.
    """

    kind: Kind
    queries: Sequence[Query]
    sigmas: Sequence[float]
    features: Features | None = None
    division: Division | None = None

    def as_data(self, heard: Sequence[Any]) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        """Return facts and arrays of the question, after what was answered before it."""
        facts: dict[str, Any] = {"sigmas": [float(sigma) for sigma in self.sigmas]}
        arrays: list[NDArray[Any]] = []
        if self.kind != "images_per_row":
            facts["columns"] = [list(query.columns) for query in self.queries]
            arrays += [np.asarray(mapping, dtype=np.int64) for query in self.queries for mapping in query.maps]
        if self.features is not None:
            facts["features"], tables = _features_as_data(self.features)
            if self.division is not None:
                facts["features"]["division"] = True
                tables += [self.division.scores.reshape(-1, self.division.inputs), self.division.offsets]
            arrays += tables
        facts["heard"], before = lengths_of(heard)
        return facts, [*arrays, *before]

    @classmethod
    def of(cls, question: Question) -> "Asked":
        """Read what `as_data` wrote.

        Raises
        ------
        InputError
            When a field is not what its kind has; nothing was looked at.
        """
        sigmas, (arrays, _) = question.facts["sigmas"], question.parts
        if not (isinstance(sigmas, list) and 1 <= len(sigmas) <= MOST_QUERIES and all(map(_is_sigma, sigmas))):
            raise InputError("question: expected one standard deviation for each query.")
        if question.kind == "images_per_row":
            if len(sigmas) != 1 or arrays:
                raise InputError("question: images_per_row has one standard deviation and no arrays.")
            return cls(question.kind, [], sigmas)
        queries, rest = _queries(question.facts["columns"], arrays)
        features = division = None
        if "features" in question.facts:
            facts, rest, division = _division_of_data(question.facts["features"], rest)
            features = _features_of_data(facts, rest)
        if len(queries) != len(sigmas) or (features is None and rest):
            raise InputError("question: expected one standard deviation and the maps of each query, and no more.")
        if features is not None and len(queries) != 1:
            raise InputError("question: expected one query for the groups of images.")
        return cls(question.kind, queries, sigmas, features, division)

    def ask(self, session: "Session") -> Any:
        """Ask it of a session, which checks and pays; returns what the session's answers give.

        The price is that of the noise that is asked for: a session that was opened otherwise, with another cap or
        another number of hospitals a patient may be in, comes to another price.
        """
        prices = self.prices(session)
        if self.kind == "counts":
            return [answer.counts for answer in session.count(self.queries, prices)]
        if self.kind == "interactions":
            return [answer.values for answer in session.interactions(self.queries, prices)]
        if self.kind == "images_per_row":
            return session.images_per_row(*prices)
        if self.features is None:
            raise InputError("question: expected the features of images.")
        ask = session.image_sums if self.kind == "image_sums" else session.image_products
        return ask(self.queries[0], self.features, prices[0], self.division)

    def prices(self, session: "Session") -> list[float]:
        """Return what the noise that is asked for costs in a session."""
        norms = [float(session.sensitivity)] * len(self.sigmas)
        if self.kind == "interactions":
            norms = [session.sensitivity * _norm(query) for query in self.queries]
        elif self.features is not None:
            norms = [float(session.per_patient)]
        return [norm**2 / (2 * sigma**2) for norm, sigma in zip(norms, self.sigmas, strict=True)]

    def check_same(self, expected: "Asked") -> None:
        """Refuse a question that is not the expected one, and say in what it differs.

        Noise and tables of features may differ as floating-point numbers do from machine to machine.

        Raises
        ------
        InputError
            Before anything is spent.
        """
        if self.kind != expected.kind:
            raise InputError(f"question {self.kind!r}: the agreed model asks {expected.kind!r} here.")
        mine, other = ([query.keys for query in asked.queries] for asked in (self, expected))
        if mine != other:
            raise InputError(f"question {self.kind!r}: the agreed model asks for other columns or cells here.")
        if len(self.sigmas) != len(expected.sigmas) or not np.allclose(self.sigmas, expected.sigmas, rtol=SAME, atol=0):
            raise InputError(f"question {self.kind!r}: the agreed model asks it at another price here.")
        if not _same_features(self.features, expected.features):
            raise InputError(f"question {self.kind!r}: the agreed model asks for other features of images here.")
        if not _same_division(self.division, expected.division):
            raise InputError(f"question {self.kind!r}: the agreed model divides the images otherwise here.")


def _same_features(first: Features | None, second: Features | None) -> bool:
    if first is None or second is None:
        return first is second
    (facts, tables), (others, more) = _features_as_data(first), _features_as_data(second)
    shapes = [table.shape for table in tables] == [table.shape for table in more]
    return facts == others and shapes and all(map(lambda a, b: np.allclose(a, b, atol=1e-5), tables, more))


def _same_division(first: Division | None, second: Division | None) -> bool:
    if first is None or second is None:
        return first is second
    shapes = first.scores.shape == second.scores.shape
    return shapes and all(
        np.allclose(a, b, atol=1e-5) for a, b in ((first.scores, second.scores), (first.offsets, second.offsets))
    )


def _norm(query: Query) -> float:
    """Return the norm of what one row adds to an interaction (`dpsynth.privacy.answers`)."""
    return float(np.sqrt(np.prod([1 - 1 / cells for cells in query.shape])))


def _is_sigma(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= MAX_SIGMA


def _queries(columns: Any, arrays: list[NDArray[Any]]) -> tuple[list[Query], list[NDArray[Any]]]:
    """Return queries, and the arrays that are left when each column has its map."""
    if not (isinstance(columns, list) and 1 <= len(columns) <= MOST_QUERIES):
        raise InputError("question: expected a list of columns for each query.")
    queries = []
    for names in columns:
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise InputError("question: expected the names of columns.")
        maps, arrays = arrays[: len(names)], arrays[len(names) :]
        if len(maps) != len(names) or any(mapping.dtype.kind != "i" for mapping in maps):
            raise InputError("question: expected a map of whole numbers for each column.")
        queries.append(Query(tuple(names), tuple(maps)))
    return queries, arrays


def _features_as_data(features: Features) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    if isinstance(features, Linear):
        return {"map": "linear"}, [features.matrix, features.shift]
    if isinstance(features, Fourier):
        return {"map": "fourier"}, [features.frequencies]
    if isinstance(features, Squares):
        return {"map": "squares"}, [features.matrix, features.band.astype(np.float64)]
    return {"map": "ones", "inputs": features.inputs}, []


def _division_of_data(facts: Any, arrays: list[NDArray[Any]]) -> tuple[Any, list[NDArray[Any]], Division | None]:
    """Return the facts and tables of the features alone, and the division that stands behind them."""
    if not isinstance(facts, dict) or "division" not in facts:
        return facts, arrays, None
    if facts["division"] is not True or len(arrays) < 2 or any(array.dtype.kind != "f" for array in arrays[-2:]):
        raise InputError("question: expected the scores and offsets of a division.")
    scores, offsets = arrays[-2:]
    if scores.ndim != 2 or offsets.ndim != 2 or offsets.size != len(scores):
        raise InputError("question: the offsets of the division do not fit its scores.")
    division = Division(scores.reshape(*offsets.shape, scores.shape[1]), offsets)
    return {key: value for key, value in facts.items() if key != "division"}, arrays[:-2], division


def _features_of_data(facts: Any, arrays: list[NDArray[Any]]) -> Features:
    """Return one of the kernel's own maps: what travels is its table, never code."""
    kind = facts.get("map") if isinstance(facts, dict) else None
    if any(array.dtype.kind != "f" for array in arrays):
        raise InputError("question: expected tables of numbers for the features.")
    if kind == "linear" and set(facts) == {"map"} and len(arrays) == 2:
        return Linear.of_shift(arrays[0], arrays[1])
    if kind == "fourier" and set(facts) == {"map"} and len(arrays) == 1:
        return Fourier(arrays[0])
    if kind == "squares" and set(facts) == {"map"} and len(arrays) == 2:
        return Squares(arrays[0], np.rint(arrays[1]).astype(np.intp))
    inputs = facts.get("inputs") if kind == "ones" else None
    if isinstance(inputs, int) and not isinstance(inputs, bool) and set(facts) == {"map", "inputs"} and not arrays:
        return Ones(inputs)
    raise InputError("question: expected the features linear, fourier, squares or ones, with their tables.")
