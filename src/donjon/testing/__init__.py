"""The test kit that is shipped: conformance classes and fakes that obey locks."""
