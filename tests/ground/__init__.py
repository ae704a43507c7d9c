"""A real Kubernetes, its images and an S3 server on one machine. Standard library only: it runs before any environment is there."""
