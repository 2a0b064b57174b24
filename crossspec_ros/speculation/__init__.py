"""Speculative decoding: token trees, draft sources, acceptance, budget and the decode loop; torch only."""
