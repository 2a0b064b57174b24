"""Packets, events, windows and the pictures made of them; numpy and numba only."""
