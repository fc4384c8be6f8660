"""The release's machine-readable card: Croissant 1.0 JSON-LD (MLCommons), so that loaders find files and columns."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dpsynth.columns.kinds import Boolean, Categorical, Datetime, Identifier, Numeric
from dpsynth.schema.images import Images
from dpsynth.schema.schema import Schema

__all__ = ["croissant"]

_TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in _TERMS},
    "conformsTo": "dct:conformsTo",
}
_PATIENTS = "data/patients.parquet"
_FILES = {_PATIENTS: "application/x-parquet", "data/patients.csv": "text/csv"}
_INDEX = "data/index.parquet"
_FORMATS = {".png": "image/png", ".nii.gz": "application/gzip", ".npy": "application/octet-stream"}


def croissant(
    schema: Schema,
    columns: list[str],
    folder: Path,
    *,
    title: str,
    description: str,
    limits: str,
    date: str,
    licence: str,
    ending: str = "",
) -> dict[str, Any]:
    """Return the machine-readable description of a release (Croissant 1.0).

    Parameters
    ----------
    schema : Schema
        Public facts about the columns.
    columns : list of str
        The released columns, in order.
    folder : path
        The release; its data files are there already. Only the synthetic files are hashed.
    title, description, limits : str
        What stands on the dataset card.
    date : str
        Day of the release, ISO.
    licence : str
        SPDX name or URL; may be empty.
    ending : str
        Suffix of the image files; empty where there are none.

    Returns
    -------
    dict
        JSON-LD.
    """
    card: dict[str, Any] = {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "name": title,
        "description": description,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "datePublished": date,
        "version": "1.0.0",
        "isLiveDataset": False,
        "keywords": ["synthetic data", "differential privacy"],
        "rai:dataLimitations": limits,
        "rai:personalSensitiveInformation": "None of the rows is a person; privacy.json holds the privacy statement.",
        "distribution": [_file(folder, path, form) for path, form in _FILES.items()],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "patients",
                "name": "patients",
                "description": "One synthetic record a row.",
                "field": [_field(schema, name) for name in columns],
            }
        ],
    }
    if ending and schema.images is not None:
        card["distribution"] += [_file(folder, _INDEX, "application/x-parquet"), _image_files(ending)]
        card["recordSet"].append(_image_records(schema, schema.images, columns, ending))
    return card | ({"license": licence} if licence else {})


def _image_files(ending: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": "image-files",
        "name": "image-files",
        "description": "The images, named by numbers.",
        "encodingFormat": _FORMATS[ending],
        "includes": f"data/images/*{ending}",
    }


def _image_records(schema: Schema, images: Images, columns: list[str], ending: str) -> dict[str, Any]:
    """Describe the index; pictures that loaders open come with their content, others with their path."""
    path = _index_field("image", "Path of the image, relative to data/.", "sc:Text")
    fields = [path, _index_field("patient", "Row of data/patients.parquet, from 0.", "sc:Integer")]
    fields += [
        _index_field(name, schema.columns[name].description or name, _data_type(schema.columns[name]))
        for name in columns
    ]
    if ending == ".png":
        files: dict[str, Any] = {"fileSet": {"@id": "image-files"}}
        path["source"]["transform"] = {"regex": "(?:.*/)?([^/]+)$"}
        path["references"] = {**files, "extract": {"fileProperty": "filename"}}
        content = {"dataType": "sc:ImageObject", "source": {**files, "extract": {"fileProperty": "content"}}}
        fields.append({**_index_field("image", "The picture.", ""), "@id": "images/image/content", **content})
    size = " x ".join(map(str, images.size))
    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": f"One synthetic image a row, {size}, channels: {images.channels}.",
        "key": {"@id": "images/image"},
        "field": fields,
    }


def _index_field(name: str, description: str, data_type: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"images/{quote(name, safe='')}",
        "name": name,
        "description": description,
        "dataType": data_type,
        "source": {"fileObject": {"@id": _INDEX}, "extract": {"column": name}},
    }


def _file(folder: Path, path: str, form: str) -> dict[str, Any]:
    content = (folder / path).read_bytes()
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": Path(path).name,
        "contentUrl": path,
        "contentSize": f"{len(content)} B",
        "encodingFormat": form,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _field(schema: Schema, name: str) -> dict[str, Any]:
    column = schema.columns[name]
    return {
        "@type": "cr:Field",
        "@id": f"patients/{quote(name, safe='')}",
        "name": name,
        "description": column.description or name,
        "dataType": _data_type(column),
        "source": {"fileObject": {"@id": _PATIENTS}, "extract": {"column": name}},
    }


def _data_type(column: Numeric | Categorical | Boolean | Datetime | Identifier) -> str:
    if isinstance(column, Numeric) and column.states:
        return "sc:Text"
    if isinstance(column, Numeric):
        return "sc:Float" if column.decimals else "sc:Integer"
    if isinstance(column, Datetime):
        return "sc:DateTime" if column.clock else "sc:Date"
    kinds = {type(value) for value in column.categories} if isinstance(column, Categorical | Boolean) else set()
    return (
        {bool: "sc:Boolean", int: "sc:Integer", float: "sc:Float"}.get(kinds.pop(), "sc:Text")
        if len(kinds) == 1
        else "sc:Text"
    )
