"""Empirical lower bounds on epsilon: what an attack can show, and the most that so many runs could have shown.

An audit can refute a claim, never prove it. Everything here takes scores, callables and public cohorts; the workflow
(`dpsynth.jobs.audit`) joins it with models.
"""
