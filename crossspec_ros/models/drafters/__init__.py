"""Drafters: the event drafter of this package, EventGPT, and small video-language models on pictures of events."""
