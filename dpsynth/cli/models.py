"""``dpsynth models``: which synthesizers are installed."""

from typing import Any

from dpsynth.cli.common import JsonOption, emit, guarded, table
from dpsynth.errors import InputError


@guarded
def run(json: JsonOption = False) -> None:
    """List the models that are installed, with their options.

    For example:

        dpsynth models

        dpsynth models --json
    """
    from dpsynth.jobs.fit import DEFAULT_IMAGE_MODEL, DEFAULT_MODEL
    from dpsynth.models import available

    defaults = {DEFAULT_MODEL: "default", DEFAULT_IMAGE_MODEL: "default where there are images"}
    models = [_describe(name) for name in available()]
    if json:
        emit({"default": DEFAULT_MODEL, "default_with_images": DEFAULT_IMAGE_MODEL, "models": models})
        return
    rows = [(_named(model["name"], defaults), _summary(model)) for model in models]
    table("models", ("name", "what it does"), rows)


def _named(name: str, defaults: dict[str, str]) -> str:
    return f"{name} ({defaults[name]})" if name in defaults else name


def _describe(name: str) -> dict[str, Any]:
    """Return the facts about a model; one whose extra is not installed says so and keeps the others alive."""
    import inspect

    from dpsynth.models import synthesizer

    try:
        maker = synthesizer(name)
    except InputError as error:
        return {"name": name, "available": False, "summary": str(error)}
    options = {
        key: {"type": str(p.annotation), "default": None if p.default is p.empty else p.default}
        for key, p in inspect.signature(maker).parameters.items()
    }
    return {
        "name": name,
        "available": True,
        "summary": maker.summary,
        "accounting": maker.accounting,
        "citation": maker.citation,
        "options": options,
    }


def _summary(model: dict[str, Any]) -> str:
    """Return what a model does, who proposed it, and its options with their defaults, a line each."""
    options = ", ".join(f"{key}={option['default']}" for key, option in model.get("options", {}).items())
    parts = [model["summary"], model.get("citation", ""), f"options: {options}" if options else ""]
    return "\n".join(part for part in parts if part)
