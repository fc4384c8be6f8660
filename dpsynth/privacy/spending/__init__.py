"""The ring of spending: what was granted, what was spent, and what remembers it. It holds no value of a patient.

**Guarantees.** Before data are looked at, the whole price of what is asked is in the ledger, on the disk; past the
budget of a run, or the limit of a dataset, nothing is asked. All events together cost at most epsilon at delta.
Whichever name the data are read under, and whichever ledger is named, one ledger counts for them.

**Trusts.** dp-accounting for conversions to (epsilon, delta), scipy for quantiles of the normal law, filelock for the
lock, the file system for a rename that is whole. Of the data it sees names of files and of an index's columns
alone, to find their ledger.

**Reading order.** budget, events, accounting, composition, trade_offs, training_plan (prices and their derivations);
synced, ledger_records, ledger_totals, ledger_file, ledger_pointer, ledger, named_places, ledger_place (what is
remembered, and where); privacy_filter (pay first, look then); statement (what is said of it).
"""
