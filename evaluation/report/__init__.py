"""One HTML page that reads like a paper, and its JSON twin."""

from dpsynth.evaluation.report.page import document, embed, json_schema, render_internal, render_public

__all__ = ["document", "embed", "json_schema", "render_internal", "render_public"]
