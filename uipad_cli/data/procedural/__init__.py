"""Made-up surfaces without end, drawn in batches on any device: what a backbone of our own learns to see."""
