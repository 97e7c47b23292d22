"""Methods: one paper a file, each a difference from its baseline."""
