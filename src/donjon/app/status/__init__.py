"""Whether the workloads of a plan are safe: facts of what is there now, and the matrix made of them."""
