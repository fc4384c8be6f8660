"""Saved models whose files were changed by somebody."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from dpsynth.atomic import read_json, write_json
from dpsynth.errors import ModelFormatError
from dpsynth.models import Model, load_model

Harm = Callable[[dict[str, Any], dict[str, Any]], Any]
"""Changes a configuration and arrays in place."""


def refused(model: Model, harm: Harm, folder: Path) -> str:
    """Hold that a model's files are read when they are written again as they are, and refused when they are harmed.

    Returns
    -------
    str
        The message.
    """
    model.save(folder)
    _rewrite(folder, lambda _config, _arrays: None)
    load_model(folder)
    _rewrite(folder, harm)
    with pytest.raises(ModelFormatError) as caught:
        load_model(folder)
    return str(caught.value)


def _rewrite(folder: Path, harm: Harm) -> None:
    stored: Any = read_json(folder / "config.json")
    arrays = {name: array.copy() for name, array in load_file(folder / "model.safetensors").items()}
    harm(stored["config"], arrays)
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").unlink()
    write_json(folder / "config.json", stored)
