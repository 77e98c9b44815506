"""What every service has: settings, logging, metrics, health, tracing and a life cycle."""
