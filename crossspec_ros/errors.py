"""Errors that users of the package may catch."""


class CrossSpecError(Exception):
    """Bad input: the text names the field, the rule and the value, and what to do where that is known."""
