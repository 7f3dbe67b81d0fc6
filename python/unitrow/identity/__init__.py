"""Are these the bytes that someone published? Digests, manifests, and what downloads leave beside files."""

from __future__ import annotations

from unitrow.identity.hashing import Hashed, hash_paths
from unitrow.identity.verifying import Verification, verify

__all__ = ["Hashed", "Verification", "hash_paths", "verify"]
