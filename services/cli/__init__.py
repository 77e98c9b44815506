"""The `darkroom` command: runs the services as processes of this machine, and is a client of their HTTP interface."""
