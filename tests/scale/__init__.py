"""The operator among thousands of jobs: a real API server, kwok's nodes and kubelets, agents that are stand-ins."""
