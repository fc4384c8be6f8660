"""What a release is on disk: its rows, dataset card, Croissant card and report page."""
