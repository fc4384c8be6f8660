"""What is publicly known about a cohort before anybody looks at it: fields, constraints, consistency, YAML.

`Schema` is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpsynth.schema.schema import Schema

__all__ = ["Schema"]


def __getattr__(name: str) -> Any:
    if name != "Schema":
        raise AttributeError(f"module 'dpsynth.schema' has no attribute {name!r}")
    from dpsynth.schema.schema import Schema

    return Schema
