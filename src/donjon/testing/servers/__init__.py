"""Real servers and devices on this machine, each for as long as a test needs it."""
