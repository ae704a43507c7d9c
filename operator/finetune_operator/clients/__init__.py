"""Everything that talks to somebody else: the API server and the agents. Must decide nothing about a job."""
