"""From results to text: the one place that escapes and writes."""
