"""One adapter a file. Each turns a path into a DuckDB table expression whose scalar columns are text, so that no id loses a digit."""
