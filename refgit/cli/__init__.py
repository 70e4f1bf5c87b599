"""The command line: arguments, output, terminal, and a file for each command."""
