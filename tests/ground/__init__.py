"""A real Kubernetes, its images and an S3 server on one machine; standard library only: it runs before any venv."""
