"""Synthesizers, which learn from noisy answers, and the models that they leave behind."""

from dpsynth.models.base import Model, Released, Synthesizer
from dpsynth.models.loading import load_model
from dpsynth.models.plan import Plan, PlanItem
from dpsynth.models.registry import available, make, synthesizer

__all__ = ["Model", "Plan", "PlanItem", "Released", "Synthesizer", "available", "load_model", "make", "synthesizer"]
