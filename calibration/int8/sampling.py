"""tmp"""
from __future__ import annotations
import hashlib
import numpy as np
def sample_hash(feeds):
    digest = hashlib.sha256()
    for feed in feeds:
        for name in sorted(feed):
            digest.update(name.encode()); digest.update(np.ascontiguousarray(feed[name]).tobytes())
    return digest.hexdigest()
