"""The page and its JSON twin, from an evaluation. Two renderings: what may be published, and what may not."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from dpsynth.evaluation.findings import Findings
from dpsynth.evaluation.report import figures
from dpsynth.evaluation.report.annex import Item, annex
from dpsynth.evaluation.report.answers import repeated
from dpsynth.evaluation.report.on_fairness import fairness
from dpsynth.evaluation.report.on_fidelity import fidelity
from dpsynth.evaluation.report.on_images import images
from dpsynth.evaluation.report.on_inference import inference
from dpsynth.evaluation.report.on_limits import failures, glossary, unsupported
from dpsynth.evaluation.report.on_survival import survival
from dpsynth.evaluation.report.on_utility import utility
from dpsynth.evaluation.report.parts import own_budget
from dpsynth.evaluation.report.privacy import ledger_grid, ledger_summary, privacy
from dpsynth.evaluation.report.signing import signable
from dpsynth.evaluation.report.text import TextTable
from dpsynth.evaluation.report.verdicts import Answer, GroupVerdict, group_verdicts, verdicts
from dpsynth.evaluation.result import DisclosureError, jsonable
from dpsynth.evaluation.results import PublicResults

__all__ = ["document", "embed", "environment", "json_schema", "render_internal", "render_public", "style"]

FORMAT = "dpsynth-report"
VERSION = 1


@cache
def environment() -> Any:
    """Return the jinja2 environment of the page's templates: everything is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def style() -> str:
    """Return the page's style sheet."""
    return (Path(__file__).parent / "report.css").read_text(encoding="utf-8")


def render_public(evaluation: Findings) -> str:
    """Return the page that may be published.

    Raises
    ------
    DisclosureError
        If the evaluation holds anything but `PublicResults` (see `Evaluation.public`): the page is then not made.
    """
    if not isinstance(evaluation.results, PublicResults):
        raise DisclosureError(
            "the public report takes public results only; give it evaluation.public(), or render the internal report."
        )
    return _render(evaluation, audience="public")


def render_internal(evaluation: Findings) -> str:
    """Return the page with everything, marked as internal."""
    return _render(evaluation, audience="internal")


def _render(evaluation: Findings, audience: str) -> str:
    context = _context(evaluation) | {"audience": audience, "css": style()}
    return str(environment().get_template("report.html.j2").render(context))


def _context(evaluation: Findings) -> dict[str, Any]:
    from markupsafe import Markup

    results, margins, target = evaluation.results, evaluation.terms.margins, evaluation.about.get("target")
    withheld = _withheld(evaluation)
    groups, answers = group_verdicts(results, margins), verdicts(results, margins, target, withheld=withheld)
    statement = privacy(evaluation.statement, _beside(evaluation.about))
    return {
        "evaluation": evaluation,
        "about": evaluation.about,
        "schema": evaluation.schema,
        "privacy": statement,
        "repeated": repeated(results),
        "power": Markup(_power(statement.power)),  # noqa: S704  (an SVG of ours: its texts are escaped)
        "verdicts": answers,
        "outcome": _described(evaluation, target),
        "groups": _sentences(groups, withheld=withheld, copied=bool(repeated(results))) if groups else [],
        "group_table": _group_grid(groups),
        "margins": margins,
        "sections": [
            fidelity(results, withheld=withheld),
            utility(results, target, evaluation.about, withheld=withheld),
            *([images(results, target, evaluation.about)] if evaluation.schema.images is not None else []),
            *([survival(results, withheld=withheld)] if evaluation.schema.survival is not None else []),
            *([inference(results, withheld=withheld)] if evaluation.schema.survival is None else []),
            fairness(results, margins, withheld=withheld),
            failures(results, withheld=withheld),
        ],
        "unsupported": unsupported(images=evaluation.schema.images is not None),
        "statements": signable(answers, groups, evaluation.statement, results),
        "ledger": ledger_grid(evaluation.statement),
        "ledger_summary": ledger_summary(evaluation.statement),
        "annex": _annex(evaluation),
        "glossary": glossary(results),
        "safe": Markup,
        "version": _version(),
    }


def _withheld(evaluation: Findings) -> bool:
    """Return whether there may be numbers that must not be shown: on the public page of private patients."""
    return isinstance(evaluation.results, PublicResults) and evaluation.about.get("real_data") != "public"


def _annex(evaluation: Findings) -> list[Item]:
    fair, withheld = _has_fairness(evaluation), _withheld(evaluation)
    return annex(evaluation.statement, about=_named(evaluation), fairness=fair, withheld=withheld)


def _beside(about: Mapping[str, Any]) -> str:
    """Return what was spent on the same patients for the evaluation itself."""
    spent = own_budget(about) if about.get("real_data") != "public" else ""
    return f"For the evaluation a DP classifier was trained on the same patients. {spent}" if spent else ""


def _version() -> str:
    from importlib.metadata import version

    return version("dpsynth")


def _power(grid: TextTable | None) -> str:
    if grid is None:
        return ""
    points = [(float(a.rstrip(" %")) / 100, float(b.rstrip(" %")) / 100) for a, b in grid.rows]
    return figures.power_curve(points, "power")


def _named(evaluation: Findings) -> dict[str, Any]:
    return {"name": evaluation.schema.name, "description": evaluation.schema.description}


def _has_fairness(evaluation: Findings) -> bool:
    return any(result.ok for result in evaluation.results.select("group_change"))


_LEARNING = {
    Answer.YES: "Models learned from the cohort hold up, within the margin, in",
    Answer.NO: "They do worse than the margin allows in",
    Answer.NOT_SHOWN: "Whether models hold up is too uncertain, or too close to the margin, to tell in",
    Answer.UNKNOWN: "Whether models hold up cannot be told (too few test patients, or too little to learn) in",
}
_NOT_HERE = "No number of this page says whether models hold up in"
_SHARE = {
    Answer.YES: "The cohort has as many as it should, within the margin, of",
    Answer.NOT_SHOWN: "The group is too small, or the result too close to the margin, to tell whether it has enough of",
    Answer.UNKNOWN: "Nothing can be said of the share of",
    Answer.NOTHING_CHECKED: "Nothing was checked, because everybody is in the group, of the share of",
}
_TOO_MANY, _TOO_FEW = "It has far too many of", "It has far too few of"


def _sentences(
    groups: list[GroupVerdict], *, withheld: bool = False, copied: bool = False
) -> list[tuple[str, list[str]]]:
    """Return for each answer the groups that it is about: first on learning, then on their share.

    Combinations of groups are counted and stand in the table; those with a no are named here too.
    """
    if copied:
        return [("It repeats real patients, so that nothing is good enough in", ["every group"])]
    learning = _LEARNING | ({Answer.UNKNOWN: _NOT_HERE} if withheld else {})
    sentences = [
        (words, _names([group for group in groups if group.learning is answer], groups, named=answer is Answer.NO))
        for answer, words in learning.items()
    ]
    missed = [group for group in groups if group.share is Answer.NO]
    for words, larger in ((_TOO_FEW, False), (_TOO_MANY, True)):
        sentences.append((words, _names([group for group in missed if group.larger is larger], groups, named=True)))
    sentences += [
        (words, _names([group for group in groups if group.share is answer], groups, named=False))
        for answer, words in _SHARE.items()
    ]
    return [(words, names) for words, names in sentences if names]


def _names(chosen: list[GroupVerdict], groups: list[GroupVerdict], *, named: bool) -> list[str]:
    """Return the names of groups; combinations by their number, unless they are to be named."""
    if chosen and len(chosen) == len(groups):
        return ["every group"]
    names = [group.group for group in chosen if named or not group.combined]
    many, of = sum(group.combined for group in chosen), sum(group.combined for group in groups)
    return names if named or not many else [*names, f"{many} of {of} combinations (see the table)"]


def _described(evaluation: Findings, target: str | None) -> str:
    """Return the outcome with the schema's words for it."""
    column = evaluation.schema.columns.get(target or "")
    words = getattr(column, "description", "")
    return f"{target} ({words})" if words else target or ""


def _group_grid(groups: list[GroupVerdict]) -> TextTable | None:
    rows = [
        (group.group, str(group.learning), group.change, str(group.share), group.representation) for group in groups
    ]
    head = ("Group", "Learning holds up?", "Change", "Has its share?", "Synthetic over real share")
    return TextTable("Groups of patients, one by one", head, rows) if rows else None


def document(evaluation: Findings) -> dict[str, Any]:
    """Return the JSON twin of the page, in the form of `json_schema`."""
    results, margins = evaluation.results, evaluation.terms.margins
    target = evaluation.about.get("target")
    page = {
        "format": FORMAT,
        "version": VERSION,
        "audience": "public" if isinstance(results, PublicResults) else "internal",
        "about": dict(evaluation.about),
        "privacy": dict(evaluation.statement),
        "margins": {key: getattr(margins, key) for key in margins.__dataclass_fields__},
        "warnings": [words for words in (repeated(results),) if words],
        "verdicts": [vars(item) for item in verdicts(results, margins, target, withheld=_withheld(evaluation))],
        "groups": [vars(item) for item in group_verdicts(results, margins)],
        "results": results.to_dicts(),
        "annex": [vars(item) for item in _annex(evaluation)],
    }
    checked: dict[str, Any] = jsonable(page)
    return checked


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `document`, which ships as ``report.schema.json``."""
    import json

    schema: dict[str, Any] = json.loads((Path(__file__).parent / "report.schema.json").read_text(encoding="utf-8"))
    return schema


def embed(evaluation: Findings) -> str:
    """Return the internal page in a frame of its own, for a notebook: its styles stay its own."""
    import html

    page = html.escape(render_internal(evaluation), quote=True)
    return f'<iframe title=Findings style="width:100%;height:80vh;border:1px solid #ccc" srcdoc="{page}"></iframe>'
