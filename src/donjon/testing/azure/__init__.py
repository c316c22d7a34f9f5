"""Azure on this machine: Azurite behind our WORM front, and fakes of ours."""
