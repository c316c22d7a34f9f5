"""Google Cloud on this machine: fake-gcs-server behind our WORM front, and fakes of ours."""
