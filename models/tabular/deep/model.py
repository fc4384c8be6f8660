"""What every deep model for tables leaves behind: a layout, the paid distributions, and something that draws rows."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from dpsynth.coding.codec import Codec
from dpsynth.errors import InputError
from dpsynth.models.base import Model, Released
from dpsynth.models.conditional_draws import Support
from dpsynth.models.tabular.deep.conditions import ConditionTable
from dpsynth.models.tabular.deep.layout import FURTHEST, KNOTS, Calibration, Layout
from dpsynth.models.tabular.deep.networks import BATCH, LARGEST, MLP, normal, restored, saved
from dpsynth.models.tabular.marginals.model import SCARCE, read_counts

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
Masks = Mapping[str, NDArray[np.bool_]]

ROUNDS = 200
"""Rows that are drawn at most, as a multiple of those that are wanted, where a condition is met by chance."""
AT_LEAST = 100_000
"""Rows that may be drawn for a condition in any case."""
CALIBRATED_ON = 20_000
"""Rows that a calibration is found on."""


@dataclass(frozen=True, eq=False)
class PaidTable:
    """Paid answers beside the training: layout, joint table of the conditions, number of rows, noisy counts.

    Attributes
    ----------
    layout
        Columns, with the paid distribution of each.
    conditions
        Their paid joint distribution.
    rows
        Number of training rows: as declared, else estimated from noisy counts.
    counts
        Noisy counts to publish, at most one table a column.
    """

    layout: Layout
    conditions: ConditionTable
    rows: int
    counts: Sequence[Released]

    def to_parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return configuration and arrays."""
        layout, names = self.layout, list(self.layout.codec.columns)
        config = {
            "rows": self.rows,
            "conditions": list(layout.conditions),
            "sigma": self.conditions.sigma,
            "counts": [{"column": table.columns[0], "sigma": table.sigma} for table in self.counts],
        }
        arrays: dict[str, NDArray[Any]] = {"conditions": self.conditions.table.ravel()}
        arrays |= {f"shares.{i}": layout.shares[name] for i, name in enumerate(names)}
        arrays |= {f"states.{i}": layout.bins.maps[name] for i, name in enumerate(names)}
        arrays |= {f"counts.{i}": table.counts for i, table in enumerate(self.counts)}
        arrays |= {f"cells.{i}": table.maps[0] for i, table in enumerate(self.counts)}
        return config, arrays

    @classmethod
    def from_parts(cls, codec: Codec, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Check parts that come from a file against the codec."""
        names = list(codec.columns)
        shares = {name: arrays[f"shares.{i}"].astype(np.float64) for i, name in enumerate(names)}
        maps = {name: arrays[f"states.{i}"].astype(np.int64) for i, name in enumerate(names)}
        for name in names:
            _check_column(shares[name], maps[name], codec.columns[name].size)
        columns = tuple(str(name) for name in config["conditions"])
        if list(columns) != [name for name in names if name in columns]:
            raise ValueError("conditions are not columns in their order")
        layout = Layout(codec, shares, maps, columns)
        table, sigma = arrays["conditions"].astype(np.float64), float(config["sigma"])
        if table.shape != (prod(layout.condition_sizes),) or not _probabilities(table) or not 0 <= sigma < np.inf:
            raise ValueError("the conditions' table does not fit")
        rows = int(config["rows"])
        if rows < 1:
            raise ValueError("the number of rows is not positive")
        return cls(
            layout,
            ConditionTable(columns, table.reshape(layout.condition_sizes), sigma),
            rows,
            read_counts(codec, config["counts"], dict(arrays)),
        )


def _check_column(shares: Array, maps: Codes, size: int) -> None:
    if shares.shape != (size,) or not _probabilities(shares):
        raise ValueError("shares do not fit the codec")
    if maps.shape != (size,) or maps.min() < 0 or len(np.unique(maps)) != int(maps.max()) + 1:
        raise ValueError("states do not fit the codec")


def _probabilities(values: Array) -> bool:
    return bool(np.isfinite(values).all() and values.min() >= 0 and abs(values.sum() - 1) < 1e-6)


class DeepModel(Model):
    """A fitted network that draws rows, under conditions.

    Conditions on the columns that the network reads are exact; those on others are met by drawing until they are.

    Parameters
    ----------
    codec
        Columns as fine codes.
    statement
        The session's privacy statement.
    paid
        What was paid for beside the training.
    network
        What computes rows.
    calibration
        What brings its scores to the paid margins; None finds it.
    """

    def __init__(
        self,
        codec: Codec,
        statement: dict[str, Any],
        *,
        paid: PaidTable,
        network: MLP,
        calibration: Calibration | None = None,
    ) -> None:
        super().__init__(codec, statement)
        self.paid = paid
        self.network = network
        self.calibration = calibration or Calibration.none(paid.layout.width)

    def calibrated(self) -> Self:
        """Find the calibration from rows of the model's own; return the model."""
        rng = np.random.default_rng(0)
        layout = self.paid.layout
        states = self.paid.conditions.draw(CALIBRATED_ON, layout.bins, {}, rng)
        self.calibration = Calibration.of(layout, self._scores(states, CALIBRATED_ON, rng))
        return self

    @property
    def rows(self) -> int:
        """Number of training rows: as declared, else estimated from noisy counts."""
        return self.paid.rows

    def released(self) -> list[Released]:
        """Return the noisy one-way counts that the model keeps."""
        return list(self.paid.counts)

    @abc.abstractmethod
    def scores(self, conditions: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Return (rows, width) outputs for rows whose conditions are given as one-hot states."""

    def _scores(self, states: Mapping[str, Codes], rows: int, rng: np.random.Generator) -> Array:
        conditions = self.paid.layout.one_hot(states, rows)
        with torch.no_grad():
            parts = [self.scores(conditions[start : start + BATCH], rng).double() for start in range(0, rows, BATCH)]
        return np.asarray(np.nan_to_num(torch.cat(parts).numpy()), dtype=np.float64)

    def sample_codes(self, n: int, masks: Masks, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Draw rows; what the network does not read as a condition is met by drawing again, within bounds."""
        wanted = self._wanted(masks)
        read = {name: mask for name, mask in wanted.items() if name in self.paid.layout.conditions}
        chance = self.paid.conditions.share(self.paid.layout.bins, {k: m.astype(float) for k, m in read.items()})
        if chance < SCARCE:
            raise _too_scarce(masks)
        kept: list[dict[str, Codes]] = []
        have, drawn, size = 0, 0, n
        while have < n:
            if drawn >= max(ROUNDS * n, AT_LEAST):
                raise _too_scarce(masks)
            codes = self._draw(size, read, rng)
            stay = np.logical_and.reduce([np.ones(size, dtype=bool), *(m[codes[name]] for name, m in wanted.items())])
            kept.append({name: column[stay] for name, column in codes.items()})
            have, drawn = have + int(stay.sum()), drawn + size
            size = int(min(1.1 * (n - have) * drawn / max(have, 1) + 256, BATCH * 4))
        return {name: np.concatenate([part[name] for part in kept])[:n] for name in self.codec.columns}

    def _wanted(self, masks: Masks) -> dict[str, NDArray[np.bool_]]:
        """Return the masks, with those of implied columns carried over to their sources."""
        wanted = dict(masks)
        for name, implied in self.paid.layout.implied.items():
            if name in wanted:
                mask = wanted.pop(name)[implied.codes]
                wanted[implied.source] = mask & wanted[implied.source] if implied.source in wanted else mask
        excluded = [
            columns
            for columns, table in self.codec.forbidden()
            if set(columns) <= set(wanted) and table[np.ix_(*(wanted[name] for name in columns))].all()
        ]
        if excluded or not all(mask.any() for mask in wanted.values()):
            raise InputError(f"where: the schema's constraints exclude the condition on {', '.join(masks)}.")
        return wanted

    def _draw(self, n: int, read: Masks, rng: np.random.Generator) -> dict[str, Codes]:
        layout = self.paid.layout
        states = self.paid.conditions.draw(n, layout.bins, read, rng)
        codes = {name: layout.bins.refine(name, states[name], read.get(name), rng) for name in layout.conditions}
        codes |= layout.decoded(self._scores(states, n, rng), self.calibration, rng)
        codes |= {name: implied.codes[codes[implied.source]] for name, implied in layout.implied.items()}
        return codes

    def support(self, where: Mapping[str, Any]) -> Support | None:
        """Return at most how many training rows meet a condition, by the paid counts, and the noise of that count."""
        shares = self.codec.shares(where)
        layout, conditions = self.paid.layout, self.paid.conditions
        supports = [
            (float(layout.shares[name] @ share), table.sigma)
            for name, share in shares.items()
            for table in self.paid.counts
            if table.columns[0] == name
        ]
        if len(set(shares) & set(conditions.columns)) > 1:
            supports.append((conditions.share(layout.bins, shares), conditions.sigma))
        if not supports:
            return None
        share, noise = min(supports)
        return Support(share * self.rows, noise)

    def settings(self) -> dict[str, Any]:
        """Return what a subclass needs beside the network; JSON-able."""
        return {}

    def to_parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what was paid for, the network and the calibration."""
        config, arrays = self.paid.to_parts()
        config |= {"network": self.network.sizes, "settings": self.settings()}
        arrays |= saved(self.network)
        return config, arrays | {"offsets": self.calibration.offsets, "knots": self.calibration.knots}

    @classmethod
    def from_parts(
        cls, codec: Codec, statement: dict[str, Any], config: dict[str, Any], arrays: dict[str, NDArray[Any]]
    ) -> Self:
        """Check the parts against the codec and each other, and build the model."""
        paid = PaidTable.from_parts(codec, config, arrays)
        facts = cls.checked(config["settings"])
        network = restored(config["network"], arrays, *cls.shape(paid.layout, facts))
        calibration = _read_calibration(paid.layout, arrays)
        return cls(codec, statement, paid=paid, network=network, calibration=calibration, **facts)

    @classmethod
    @abc.abstractmethod
    def shape(cls, layout: Layout, settings: Mapping[str, Any]) -> tuple[int, int]:
        """Return the inputs and outputs that the network has for a layout."""

    @classmethod
    def checked(cls, settings: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG003  (for those that have some)
        """Return the constructor's further arguments from a file; `ValueError` when they are out of range."""
        return {}


class GeneratorModel(DeepModel):
    """Rows from latent normals and conditions through one network: of a GAN, or the decoder of an autoencoder.

    Parameters
    ----------
    latent
        Number of latent normals; the first of them are added to the numbers where there is `skip`.
    spread
        Standard deviations of what each number has beside the network's output, in the order of `Layout.scores`.
    skip
        Whether each number starts from a latent normal of its own, so that a network that says nothing leaves the
        columns as they are alone.
    """

    kind: ClassVar[str] = "table-generator"

    def __init__(self, *parts: Any, latent: int, spread: Sequence[float], skip: bool = False, **facts: Any) -> None:
        super().__init__(*parts, **facts)
        if len(spread) != len(self.paid.layout.scores) or (skip and latent < len(spread)):
            raise ValueError("expected a spread for each number, and a latent normal where there is a skip")
        self.latent = latent
        self.skip = skip
        self.spread = [float(value) for value in spread]

    def scores(self, conditions: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Draw latent vectors, and states by the Gumbel trick."""
        outputs = generated(
            self.network, self.paid.layout, normal(rng, len(conditions), self.latent), conditions, self.skip
        )
        noise = torch.from_numpy(rng.gumbel(size=tuple(outputs.shape)).astype(np.float32))
        places = self.paid.layout.scores
        noise[:, places] = torch.tensor(self.spread) * normal(rng, len(conditions), len(places))
        return outputs + noise

    def settings(self) -> dict[str, Any]:
        """Return the sizes of what is drawn."""
        return {"latent": self.latent, "spread": self.spread, "skip": self.skip}

    @classmethod
    def shape(cls, layout: Layout, settings: Mapping[str, Any]) -> tuple[int, int]:
        """Return the inputs and outputs of the network."""
        return int(settings["latent"]) + layout.condition_width, layout.width

    @classmethod
    def checked(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return latent size and spread from a file."""
        latent, spread = int(settings["latent"]), [float(value) for value in settings["spread"]]
        if not (1 <= latent <= LARGEST and all(0 <= value <= FURTHEST for value in spread)):
            raise ValueError("settings out of range")
        return {"latent": latent, "spread": spread, "skip": bool(settings["skip"])}


def generated(network: MLP, layout: Layout, latent: torch.Tensor, conditions: torch.Tensor, skip: bool) -> torch.Tensor:
    """Return (rows, width) outputs of a generator for latent normals and conditions."""
    outputs: torch.Tensor = network(torch.cat([latent, conditions], dim=1))
    if skip:
        added = torch.zeros_like(outputs)
        added[:, layout.scores] = latent[:, : len(layout.scores)]
        outputs = outputs + added
    return outputs


def _read_calibration(layout: Layout, arrays: Mapping[str, NDArray[Any]]) -> Calibration:
    offsets, knots = arrays["offsets"].astype(np.float64), arrays["knots"].astype(np.float64)
    if offsets.shape != (layout.width,) or knots.shape != (layout.width, KNOTS):
        raise ValueError("the calibration does not fit the columns")
    if not (np.isfinite(offsets).all() and np.isfinite(knots).all() and (np.diff(knots, axis=1) >= 0).all()):
        raise ValueError("the calibration holds no quantiles")
    return Calibration(offsets, knots)


def _too_scarce(masks: Masks) -> InputError:
    return InputError(
        f"where: hardly any row of the model meets the condition on {', '.join(masks)}, which is too scarce to be "
        "drawn honestly; widen it or leave a column out."
    )
