"""The preprocessing kernel's source, and what `build` made of it: see `images.json` for targets, tools and hashes."""
