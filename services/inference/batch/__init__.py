"""Batch prediction: a version scores the rows of a past range, or of a file, into Parquet or Delta."""
