"""From raw tables to a prepared folder: read, clean, join, segment, split, count."""
