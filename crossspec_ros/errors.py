"""Errors that users of the package may catch."""


class CrossSpecError(Exception):
    """Bad input: the text names the field, the rule and the value, and what to do where that is known."""


class ModelLost(CrossSpecError):
    """The model is gone, and whatever it is asked raises this until it is loaded again."""
