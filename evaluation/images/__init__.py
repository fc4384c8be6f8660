"""How synthetic images are judged: utility, consistency, distances and samples."""
