"""What the job's Kubernetes objects look like: pure constructors that return plain data."""
