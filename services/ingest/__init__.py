"""The ingest service: uploads come in over HTTP, status and compressed images go out."""
