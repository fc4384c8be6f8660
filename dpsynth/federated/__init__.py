"""Several hospitals answer as one: questions are data, each hospital adds its share of the noise and masks its answer.

**Guarantees.** A hospital answers nothing that its own session, its own confirmed schema and the study that it agreed
to do not allow; what it sends is uniform on 2^64 to everybody who does not hold the masks of all the others.

**Reading order.** study (what was agreed), messages (what travels), masks (what hides a single answer), hospital (who
answers), lead (who asks and adds up), transport (how bytes come from one to the other).
"""
