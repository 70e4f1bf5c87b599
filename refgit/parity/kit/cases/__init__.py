"""The cases of the conformance kit."""
