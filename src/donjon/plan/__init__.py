"""Policy as pure logic: which points stay, what requests cost. No I/O."""
