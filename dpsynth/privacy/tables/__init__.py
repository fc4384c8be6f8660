"""The ring of tables: exact counts of private codes, and what of them may be told.

**Guarantees.** A patient moves an exact table by at most the declared sensitivity; nothing exact leaves. A value of one
patient alone is discovered with probability at most delta, which is charged. Quantiles come from noisy counts.

**Trusts.** The ring of spending for prices, the noise of `dpsynth.privacy.mechanisms`, numpy's whole numbers, and codes
that are functions of the patient's own values (`dpsynth.coding`, `dpsynth.sources`).

**Reading order.** counting (exact tables), noisy (what is answered), discovery (the threshold), quantiles.
"""
