"""The ring of images: exact sums of clipped features, and the public features that may be asked.

**Guarantees.** A patient, with all kept images, moves the sums and products of all groups together by at most 1, in
whole numbers. Only feature maps of the kernel meet pixels, never code of a model.

**Trusts.** numpy's arithmetic on fixed-point numbers, and pixels that were clipped to the public range when they were
read (`dpsynth.files`).

**Reading order.** features (what may be asked), sums (what noise is added to).
"""
