"""Our daemon beside others that do its kind of work, on one simulator, in one run: `make peers`. docs/peers.md has what came out."""
