"""The target model, the event drafter, and their loading; torch and transformers."""
