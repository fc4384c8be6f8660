"""Everything that learns from noisy answers."""

from dpsynth.models.base import Model, Plan, PlanItem, Released, Synthesizer, available, make, synthesizer
from dpsynth.models.storage import load_model

__all__ = ["Model", "Plan", "PlanItem", "Released", "Synthesizer", "available", "load_model", "make", "synthesizer"]
