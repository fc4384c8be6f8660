"""Tables, archives and folders of images on disk: reading and writing. It knows no cohort and no ledger."""
