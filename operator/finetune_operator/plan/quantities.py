"""Kubernetes quantities as bytes."""

from typing import Final

_FACTORS: Final = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "Pi": 2.0**50,
}


def parse_bytes(quantity: str) -> int:
    """Bytes of a quantity that the contract has accepted, e.g. 1073741824 for "1Gi"."""
    number = quantity.rstrip("kKMGTPim")
    return int(float(number) * _FACTORS[quantity[len(number) :]])
