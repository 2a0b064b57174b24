"""Experiments: what the methods of the field give on one pair and one set of windows, a small file each.

`experiment` says what an experiment is, `studies/` holds them (a new one is one file there), `running` runs each in a
process of its own and keeps its parts, `lab` is what they share, `report` shows what came of them.
"""
