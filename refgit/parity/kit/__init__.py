"""The conformance kit: test cases as files, for ports without Python, and their grading."""
