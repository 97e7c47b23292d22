"""Credit: pure transforms of a batch that write named per-decision streams."""
