"""The plan of this host: its file, putting it in force, running its workloads by hand and as a service."""
