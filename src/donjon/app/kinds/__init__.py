"""One module for each kind of workload: from its part of the plan to a source that can be read."""
