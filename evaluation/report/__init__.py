"""One HTML page that reads like a paper, and its JSON twin."""
