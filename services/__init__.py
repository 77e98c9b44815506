"""The services of Darkroom: ingest, watcher and notifier, and the command line that starts them."""
