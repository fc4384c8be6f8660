"""Tests of dpsynth.evaluation."""
