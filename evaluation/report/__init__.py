"""One HTML page that works offline, and its JSON twin."""
