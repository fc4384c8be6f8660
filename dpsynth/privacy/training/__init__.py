"""The ring of training: clipped, noised gradients and votes, by which networks learn from patients.

**Guarantees.** A patient's gradient, over all rows and images, has at most the clipping norm; patients are drawn apart
at the accounted rate; noise is drawn once a step, in multiples of the clipping norm / 2^26. A patient moves each vote
of the teachers by at most 1.

**Trusts.** torch for gradients in IEEE floats, opacus where it is installed for a faster way to the same gradients, the
plan of the ring of spending, and a network's own loss: that is foreign code on private batches (what leaves is noised).

**Reading order.** patients (whose records), per_patient (gradients, patient by patient), exact_floats (how floats are
computed meanwhile), dpsgd (clip, add, noise), teachers (votes).
"""
