"""Values become codes and come back: the codec, the cells of a column, rules over codes, and queries of them."""
