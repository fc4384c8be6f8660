"""A model on disk: ``config.json``, ``schema.json``, ``ledger.json``, ``model.safetensors``; never pickle.

Loading runs no code of the file's, trusts nothing in it, and ends every fault with a `ModelFormatError`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dpsynth.atomic import read_json
from dpsynth.errors import DpsynthError, InputError, ModelFormatError
from dpsynth.models.base import FILES, FORMAT, Model
from dpsynth.models.registry import available, synthesizer

__all__ = ["load_model"]

CELLS = range(2, 1 << 16)
"""What `cells` of a codec may be in a file; a larger one would only fill the memory."""


def load_model(folder: str | Path) -> Model:
    """Read a model from its folder, or from the ``model`` folder of a release.

    Parameters
    ----------
    folder : path
        A folder that `Model.save` or `dpsynth.release` wrote.

    Raises
    ------
    ModelFormatError
        If a file is missing, cut short, of another version or kind, or does not fit the schema in it.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    absent = [name for name in FILES if not (folder / name).is_file()]
    if absent:
        raise ModelFormatError(
            f"{folder.name}: {absent[0]} is not there; expected the folder of a saved model with {', '.join(FILES)}."
        )
    try:
        return _read(folder)
    except ModelFormatError:
        raise
    except InputError as error:
        raise ModelFormatError(f"{folder.name}: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, MemoryError, AttributeError) as error:
        raise ModelFormatError(
            f"{folder.name}: its files do not fit together ({type(error).__name__}); "
            "fetch the model again, or save it again with this version of dpsynth."
        ) from None


def _read(folder: Path) -> Model:
    from dpsynth.coding.codec import Codec
    from dpsynth.schema.schema import Schema

    config = _object(read_json(folder / "config.json"), "config.json")
    if config.get("format") != FORMAT:
        raise ModelFormatError(f"config.json: format is not {FORMAT}, the one that this version of dpsynth reads.")
    statement = _object(read_json(folder / "ledger.json"), "ledger.json")
    reader = _reader(config.get("kind"), statement.get("model"))
    schema = Schema.parse(_object(read_json(folder / "schema.json"), "schema.json"))
    codec = Codec(schema, cells=_cells(config["cells"]), discovered=_discovered(config["discovered"]))
    arrays = _arrays(folder / "model.safetensors")
    return reader.from_parts(codec, statement, _object(config["config"], "config.json: config"), arrays)


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ModelFormatError(f"{what}: expected a JSON object.")
    return value


def _cells(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in CELLS:
        raise ModelFormatError(f"config.json: cells is not a whole number from {CELLS.start} to {CELLS.stop - 1}.")
    return value


def _discovered(value: object) -> Mapping[str, Sequence[Any]]:
    columns = _object(value, "config.json: discovered")
    if not all(isinstance(values, list) for values in columns.values()):
        raise ModelFormatError("config.json: discovered does not hold a list for each column.")
    return columns


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        raise ModelFormatError(f"{path.name}: is not a safetensors file, or is cut short.") from None


def _reader(kind: object, made_by: object) -> type[Model]:
    """Return the installed model class of that kind; what a file says is compared with names and never imported.

    The synthesizer that the statement names is asked first, so that a table's model loads without the networks'.
    """
    first = made_by.get("name") if isinstance(made_by, dict) else None
    for name in sorted(available(), key=lambda name: name != first):
        try:
            reader = synthesizer(name).produces
        except DpsynthError:  # a model whose extra is not installed cannot be the reader
            continue
        if reader.kind == kind:
            return reader
    raise ModelFormatError(
        "config.json: no installed model reads files of this kind; install the package that wrote it."
    )
