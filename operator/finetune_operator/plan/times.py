"""RFC 3339 in UTC with whole seconds, as Kubernetes writes it, to seconds since 1970 and back."""

from datetime import UTC, datetime


def format_time(seconds: float) -> str:
    """2026-01-31T12:00:00Z for seconds since 1970; fractions are dropped."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 text."""
    return datetime.fromisoformat(text).timestamp()
