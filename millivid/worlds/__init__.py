"""The worlds that we film."""
