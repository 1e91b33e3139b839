"""What runs inside a sandbox, as its process 1. Imports itself and the standard library alone."""
