"""Draft sources: who proposes the next tokens. One protocol, one file a source."""
