"""Local copies of the field's data as questions about clips: nothing is downloaded, nothing is copied."""
