"""Rule files: their format, their checks, and the tests shipped inside them."""
