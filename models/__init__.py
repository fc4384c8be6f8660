"""Synthesizers, which learn from noisy answers, and the models that they leave behind."""

from dpsynth.models.base import Model, Plan, PlanItem, Released, Synthesizer, available, make, synthesizer
from dpsynth.models.storage import load_model

__all__ = ["Model", "Plan", "PlanItem", "Released", "Synthesizer", "available", "load_model", "make", "synthesizer"]
