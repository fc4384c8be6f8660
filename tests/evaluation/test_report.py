import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from dpsynth.errors import InputError
from dpsynth.evaluation import (
    Disclosure,
    DisclosureError,
    Evaluation,
    Margins,
    PublicResults,
    ReleasedCounts,
    Results,
    describe,
    evaluate,
)
from dpsynth.evaluation.catalogue import METRICS
from dpsynth.evaluation.report import json_schema, render_public
from dpsynth.evaluation.report.annex import annex
from dpsynth.evaluation.report.on_fairness import fairness
from dpsynth.evaluation.report.page import _sentences
from dpsynth.evaluation.report.privacy import ledger_grid, posterior, privacy
from dpsynth.evaluation.report.signing import signable
from dpsynth.evaluation.report.text import number
from dpsynth.evaluation.report.verdicts import Answer, group_verdicts, verdicts
from dpsynth.evaluation.result import Interval, estimate, failed

from .helpers import STATEMENT, cohort, frame, ward

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Reads a page: which tags are open, which ids there are, which links, which text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self.faults: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note ids, targets and headings."""
        facts = dict(attrs)
        self.ids += [facts["id"]] if facts.get("id") else []
        self.targets += [str(facts[key]) for key in ("href", "src", "xlink:href") if facts.get(key)]
        if tag in {"h1", "h2", "h3", "h4"}:
            self.headings.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open and close."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Note what closes something else."""
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        """Keep the words."""
        self.words.append(data)


def test_the_public_renderer_refuses_an_internal_result(private: Evaluation) -> None:
    """It raises, by type: plain results are refused even when all of them happen to be public."""
    with pytest.raises(DisclosureError, match="public results only"):
        render_public(private)
    with pytest.raises(DisclosureError, match="public results only"):
        render_public(replace(private, results=Results(private.results.public())))
    with pytest.raises(DisclosureError):
        PublicResults(private.results)


def test_the_public_page_holds_no_internal_number(private: Evaluation) -> None:
    """Planting a mark in every internal result leaves no trace on the public page, nor in its JSON."""
    marked = replace(
        private,
        results=Results(
            replace(result, reason="MARKED", subject=f"{result.subject} MARKED", detail={**result.detail, "MARKED": 1})
            if result.disclosure is Disclosure.INTERNAL
            else result
            for result in private.results
        ),
    )
    assert "MARKED" in marked.html()
    assert "MARKED" not in marked.html(public=True)
    assert "MARKED" not in marked.public().json()


def test_the_two_pages_say_which_they_are(private: Evaluation) -> None:
    """The banner and the title tell them apart."""
    assert "Internal report. Do not publish" in private.html()
    assert "Public report" in private.html(public=True)
    assert "Do not publish" not in private.html(public=True)


@pytest.mark.parametrize("public", [True, False])
def test_the_page_is_well_formed_and_needs_no_network(private: Evaluation, *, public: bool) -> None:
    """Tags close, ids are unique, links stay on the page, headings go down one level at a time."""
    page = Page(private.html(public=public))
    assert (page.open, page.faults) == ([], [])
    assert len(page.ids) == len(set(page.ids))
    inner = {f"#{one}" for one in page.ids}
    assert [one for one in page.targets if one not in inner and not one.startswith("data:")] == []
    levels = [int(tag[1]) for tag in page.headings]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_every_drawing_has_a_name_and_every_figure_a_table(private: Evaluation) -> None:
    """For screen readers: title and description of each SVG, a caption and a table for each figure."""
    page = private.html()
    assert page.count("<svg") == len(re.findall(r'<svg role="img" aria-labelledby="[^"]+"', page)) > 10
    assert page.count("<svg") == page.count("<title id=") == page.count("<desc id=")
    for figure in re.findall(r"<figure.*?</figure>", page, flags=re.DOTALL):
        assert "<figcaption>" in figure
        assert "<table" in figure
    assert page.count("<table") == page.count("<caption") + page.count("<table>\n<thead")


def test_the_page_reads_in_its_order(private: Evaluation) -> None:
    """Privacy first, then uses, fidelity, utility, inference, groups, failures, ledger, what can be signed, annex."""
    keys = ["privacy", "uses", "fidelity", "utility", "inference", "fairness", "limits", "ledger", "signing", "annex"]
    page = private.html()
    places = [page.index(f'<section id="{key}">') for key in keys]
    assert places == sorted(places)


def test_names_and_values_cannot_become_markup() -> None:
    """A schema with markup in its names is shown as it is written."""
    text = """
name: <b>ward</b>
confirmed: true
target: "y<script>"
subgroups: ["g&\\"'"]
columns:
  "y<script>": {type: boolean, labels: ["<i>no</i>", "<i>yes</i>"]}
  "g&\\"'": {type: categorical, values: ["<u>a</u>", "b$c$d"]}
  "x": {type: numeric, min: 0, max: 1, decimals: 2}
"""
    rng = np.random.default_rng(0)

    def made() -> pd.DataFrame:
        return pd.DataFrame(
            {
                "y<script>": rng.choice(["<i>no</i>", "<i>yes</i>"], 120),
                "g&\"'": rng.choice(["<u>a</u>", "b$c$d"], 120),
                "x": rng.random(120).round(2),
            }
        )

    page = evaluate(cohort(made(), text), cohort(made(), text, synthetic=True)).html()
    assert "<script" not in page
    assert not re.search(r"<[biu]>(ward|no|yes|a)<", page)
    assert Page(page).faults == []


def test_the_page_of_a_hundred_columns_is_under_two_megabytes() -> None:
    """And so is its drawing of the worst columns, because the others are in the table."""
    rng = np.random.default_rng(0)
    text = "name: wide\nconfirmed: true\ntarget: c0\ncolumns:\n" + "".join(
        f"  c{i}: {{type: categorical, values: [a, b, c, d, e, f, g, h]}}\n"
        if i
        else "  c0: {type: boolean, labels: [0, 1]}\n"
        for i in range(100)
    )

    def made(rows: int) -> pd.DataFrame:
        return pd.DataFrame(
            {f"c{i}": rng.integers(0, 2, rows) if i == 0 else rng.choice(list("abcdefgh"), rows) for i in range(100)}
        )

    found = evaluate(
        cohort(made(120), text), cohort(made(100), text, synthetic=True), real_train=cohort(made(100), text)
    )
    assert len(found.html().encode()) < 2_000_000


@pytest.mark.parametrize("public", [True, False])
def test_the_json_twin_follows_its_schema(private: Evaluation, open_data: Evaluation, *, public: bool) -> None:
    """The published JSON Schema accepts both renderings, and refuses a public document with an internal result."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for evaluation in (private, open_data):
        jsonschema.validate((evaluation.public() if public else evaluation).to_dict(), schema)
    forged = private.to_dict() | {"audience": "public"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(forged, schema)


@pytest.mark.parametrize("mark", ["privacy.json", "model.safetensors"])
@pytest.mark.parametrize("name", ["report.html", "data/report.html", "link/report.html"])
def test_internal_numbers_do_not_go_into_a_release(private: Evaluation, tmp_path: Path, mark: str, name: str) -> None:
    """A release or a saved model, at any depth and under any name, takes the public page alone."""
    release = tmp_path / "release"
    (release / "data").mkdir(parents=True)
    (release / mark).touch()
    (tmp_path / "link").symlink_to(release)
    page = (tmp_path if name.startswith("link") else release) / name
    for write in (private.write_html, private.write_json):
        with pytest.raises(InputError, match=f"is internal, and release is made to be published .it holds {mark}"):
            write(page)
        assert not page.exists()
        write(page, public=True)
        page.unlink()


def test_files_are_written_whole(private: Evaluation, tmp_path: Path) -> None:
    """HTML and JSON, public and internal."""
    private.write_html(tmp_path / "report.html", public=True)
    private.write_json(tmp_path / "report.json")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == private.html(public=True)
    assert '"audience": "internal"' in (tmp_path / "report.json").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_a_notebook_shows_the_page_in_a_frame(private: Evaluation) -> None:
    """Its styles do not leak into the notebook."""
    shown = private._repr_html_()
    assert shown.startswith("<iframe")
    assert "<style>" not in shown


def test_without_a_statement_nothing_is_claimed() -> None:
    """No epsilon, no guarantee: the page says that nobody is protected, and the checklists are unknown."""
    found = privacy({})
    assert not found.stated
    assert "nothing on this page says" in found.warning
    answers = {item.answer for item in annex({}, about={}, fairness=False)}
    assert answers == {"unknown"}


@pytest.mark.parametrize("private", [False, None, "yes"])
def test_a_run_that_is_not_private_is_shouted(private: object) -> None:
    """Only a statement that says true is private."""
    assert "NOT PRIVATE" in privacy({**STATEMENT, "private": private}).warning
    assert privacy(STATEMENT).warning == ""


def test_unknown_is_never_a_pass() -> None:
    """What the statement does not say is unknown in the annex; what only people can answer is never yes."""
    full = annex(STATEMENT, about={"name": "x", "description": "y"}, fairness=True)
    for key in ("neighbours", "accountant", "randomness", "not_protected", "events"):
        less = annex({k: v for k, v in STATEMENT.items() if k != key}, about={"name": "x"}, fairness=True)
        lost = {item.question for item in less if item.answer == "unknown"}
        assert lost > {item.question for item in full if item.answer == "unknown"}, key
    people = [item for item in full if item.question.startswith(("Who could see", "Was the", "Was coll", "Could time"))]
    assert len(people) == 4
    assert {item.answer for item in people} == {"unknown"}


def test_what_an_attacker_gains_is_the_odds_times_e_to_the_epsilon() -> None:
    """By hand: odds 1 to 1 become e to 1."""
    assert posterior(0.5, 1.0) == pytest.approx(np.e / (1 + np.e))
    assert posterior(0.01, 0.0) == pytest.approx(0.01)
    words = " ".join(privacy(STATEMENT).words)
    assert "at most 2.72" in words
    assert "at most 7.39" in words


def test_no_adjective_grades_epsilon(private: Evaluation) -> None:
    """The page prints the number and what it means, never strong, moderate or weak privacy; and no overall score."""
    words = " ".join(Page(private.html()).words).lower()
    assert not re.search(r"(strong|weak|moderate|good|excellent|high|low) privacy", words)
    assert "there is no overall score" in words


def results(*items: tuple[str, float, float, float]) -> Results:
    """Return results of the synthetic arm with these intervals."""
    return Results(estimate(metric, value, interval=Interval(low, high)) for metric, value, low, high in items)


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [(-0.04, -0.01, Answer.YES), (-0.09, -0.06, Answer.NO), (-0.09, 0.01, Answer.NOT_SHOWN)],
)
def test_verdicts_follow_from_intervals(low: float, high: float, answer: Answer) -> None:
    """Within the margin, beyond it, or on both sides."""
    change = results(("change", (low + high) / 2, low, high))
    ceiling = estimate("auroc", 0.8, interval=Interval(0.75, 0.85), arm="real")
    found = verdicts(Results([*change, ceiling]), Margins(loss=0.05), "died")
    assert next(verdict for verdict in found if verdict.use.startswith("Developing")).answer is answer


def test_no_number_is_unknown_and_some_uses_are_never_supported() -> None:
    """Without results every use that needs them is unknown; inference from synthetic rows is always no."""
    found = verdicts(Results(), Margins(), "died")
    assert {verdict.answer for verdict in found[:-2]} == {Answer.UNKNOWN}
    assert {verdict.answer for verdict in found[-2:]} == {Answer.NO}
    failing = Results([failed("change", "stopped")])
    assert verdicts(failing, Margins(), "died")[3].answer is Answer.UNKNOWN


def test_released_counts_can_show_enough_but_never_too_little() -> None:
    """Public evidence for tables: a small bound is a yes, a large one is not shown, and never a no."""
    for bound, answer in ((0.02, Answer.YES), (0.5, Answer.NOT_SHOWN)):
        detail = {"at_most": bound, "order": 1, "noise_alone": 0.01}
        found = verdicts(Results([estimate("released_tvd", 0.01, detail=detail)]), Margins(), None)
        assert found[1].answer is answer


def test_a_group_is_judged_by_its_change_and_its_share(private: Evaluation) -> None:
    """Every group with a result is listed once; too small groups are unknown."""
    found = group_verdicts(private.results, private.terms.margins)
    names = [result.group for result in found]
    assert len(names) == len(set(names))
    assert {"sex=f", "sex=m", "race=c"} <= set(names)
    small = {result.group for result in private.results.select("group_change") if not result.ok}
    assert {group.group for group in found if group.learning is Answer.UNKNOWN} >= small


def test_metrics_on_the_page_are_explained(private: Evaluation) -> None:
    """The glossary has each metric that was used."""
    page = private.html()
    assert all(
        METRICS[result.metric].about.split(".")[0][:30] in page or "'" in METRICS[result.metric].about
        for result in private
    )


def test_numbers_as_text() -> None:
    """Integers whole, small numbers not rounded to nothing."""
    assert [number(value) for value in (12.0, 0.5, 1234.6, 0.0, None)] == ["12", "0.500", "1,235", "0", "n/a"]


def test_a_cohort_without_ledger_events_says_so() -> None:
    """What was asked of the data is then unknown."""
    found = evaluate(ward(80), ward(60, 1, synthetic=True), statement={**STATEMENT, "events": []})
    assert "what was asked of the data is unknown" in found.html()


def test_an_internal_page_of_a_frame_with_odd_floats_renders() -> None:
    """Cohorts that were read from a data frame with missing values render without warnings."""
    assert "<svg" in evaluate(cohort(frame(90)), cohort(frame(90, 1), synthetic=True)).html()


def test_what_can_be_signed_follows_from_the_answers(private: Evaluation) -> None:
    """A yes can be signed, a no cannot, what is unknown is left open; without a statement nothing about privacy."""
    found = verdicts(private.results, private.terms.margins, "died")
    groups = group_verdicts(private.results, private.terms.margins)
    said = dict(signable(found, groups, STATEMENT, private.results))
    signed, refused, still = (said[words] for words in said)
    assert "factor of more than 2.72" in signed[0]
    for one in found:
        place = {Answer.YES: signed, Answer.NO: refused}.get(one.answer, still)
        assert any(one.use in sentence for sentence in place)
    for group in groups:
        place = {Answer.YES: signed, Answer.NO: refused}.get(group.learning, still)
        names = [sentence for sentence in place if "hold up in" in sentence]
        assert any(f" {group.group}" in name or "every group" in name for name in names)
    assert not any("odds" in one for _, each in signable(found, groups, {}, private.results) for one in each)
    assert not any("internal report" in sentence for sentence in still)
    assert any("internal report" in one for _, each in signable(found, [], STATEMENT, PublicResults()) for one in each)


def test_the_public_page_says_of_each_group_whether_it_has_its_share() -> None:
    """From the counts that were paid for: post-processing, and the page says so."""
    released = [ReleasedCounts(("sex",), np.array([310, 290]), 12.0, np.array([300, 300]), ("f", "m"))]
    found = describe(ward(600, synthetic=True), released=released, statement=STATEMENT)
    assert {result.group for result in found.results.select("representation")} == {"sex=f", "sex=m"}
    page = found.html(public=True)
    assert "noisy counts that the budget paid for" in page
    assert "The cohort has as many as it should" in page


def test_questions_of_one_kind_and_price_stand_in_one_row() -> None:
    """The ledger stays complete: every question is named, and how often; another price makes another row."""
    common = {"kind": "gaussian", "noise": "integer Gaussian", "sensitivity": 1, "scale": 12.0, "rho": 0.0035}
    events = [{**common, "what": f"counts of {name}", "count": 1} for name in ("sex", "race")]
    events += [
        {**common, "what": "counts of age", "count": 3},
        {**common, "what": "counts of sex", "count": 1, "rho": 0.5},
    ]
    table = ledger_grid({**STATEMENT, "events": events})
    assert table is not None
    assert [row[0] for row in table.rows] == ["counts of sex; race; age (3 times)", "counts of sex"]
    assert [(row[-2], row[-1]) for row in table.rows] == [("3", "0.0035"), ("1", "0.5")]


def test_the_best_attack_is_never_shown_below_guessing() -> None:
    """Rounding must not make a share of patients found smaller than the share of others wrongly accused."""
    points = [{"false_positive_rate": 1e-4, "min_false_negative_rate": 1 - 2.9e-4}]
    table = privacy({**STATEMENT, "trade_off": points}).power
    assert table is not None
    assert table.rows == [("0.01 %", "0.03 %")]


def test_released_counts_are_whole_and_cells_are_counted() -> None:
    """Nobody reads 310.4 patients, or a 1 that may be one cell or all of them."""
    released = [ReleasedCounts(("sex",), np.array([310.4, 289.6]), 12.0, np.array([300, 300]), ("f", "m"))]
    page = describe(ward(600, synthetic=True), released=released, statement=STATEMENT).html(public=True)
    assert "310 (287 to 334)" in page
    assert "2 of 2" in page
    assert "310.4" not in page


def test_representation_is_a_ratio_in_figure_and_table(private: Evaluation) -> None:
    """The figure's axis, its caption and the table behind it speak of synthetic over real share, not of a logarithm."""
    figure = next(one for one in fairness(private.results, Margins()).figures if one.key == "representation")
    one = private.results.one("representation", group="sex=f")
    row = next(row for row in figure.table.rows if row[0] == "sex=f")
    assert float(row[-1].split(" ")[0]) == pytest.approx(np.exp(one.number), abs=0.005)


def test_who_is_over_and_who_is_under_represented_is_said() -> None:
    """Too many is not too few; combinations of groups are counted where they pass and named where they do not."""
    results = []
    for group, grouping, value in (
        ("sex=f", "sex", -1.0),
        ("sex=m", "sex", 1.0),
        ("sex=f & race=a", "sex & race", 0.0),
        ("sex=m & race=a", "sex & race", 1.0),
    ):
        detail = {"grouping": grouping, "real_share": 0.1, "synthetic_share": 0.1}
        ends = Interval(value - 0.1, value + 0.1, 0.95, (), "made up")
        results.append(estimate("representation", value, group=group, interval=ends, detail=detail))
    found = dict(_sentences(group_verdicts(Results(results), Margins())))
    assert found["It has far too few of"] == ["sex=f"]
    assert found["It has far too many of"] == ["sex=m", "sex=m & race=a"]
    assert found["The cohort has as many as it should, within the margin, of"] == [
        "1 of 2 combinations (see the table)"
    ]


def test_effects_of_another_sign_are_named() -> None:
    """Of the coefficients that are clearly off 0 in real patients; one that is not is no loss."""
    wide, clear = (-1.0, 3.0), (0.5, 1.5)
    results = [estimate("sign_agreement", 0.5, n=2)]
    for name, value, ends in (("age", 1.0, clear), ("sex", 1.0, clear), ("race", 1.0, wide)):
        interval = Interval(*ends, 0.95, (), "made up")
        results.append(estimate("coefficient", value, arm="real", subject=name, interval=interval))
        sign = 1 if name == "age" else -1
        results.append(estimate("coefficient", sign * value, arm="synthetic", subject=name, interval=interval))
    found = [
        verdict
        for verdict in verdicts(Results(results), Margins(), None)
        if verdict.use.startswith("Finding directions")
    ]
    assert found[0].answer is Answer.NO
    assert "Of 2 coefficients" in found[0].finding
    assert found[0].finding.endswith("Another sign: sex.")
