"""What makes two tasks the same: inputs, labels, roles and which row stands on which side.

Paths, file formats and machines do not enter.
"""

from __future__ import annotations

import hashlib

from warmstart.data.columns import Roles
from warmstart.data.sides import Positions, Side


def fingerprint(roles: Roles, labels: tuple[str, ...], splits: dict[str, tuple[Side, Positions]]) -> str:
    """A sha256, in hex.

    Args:
        roles: the columns by role.
        labels: the label names in order.
        splits: name of the split → its rows; positions are within the side's source.
    """
    digest = hashlib.sha256()

    def add(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)

    for role, column in sorted(roles.columns.items()):
        add(role.encode())
        add(column.encode())
    for label in labels:
        add(label.encode())
    for name, (side, positions) in splits.items():
        add(name.encode())
        add(str(len(positions)).encode())
        for place, label in zip(positions.tolist(), side.labels_at(positions), strict=True):
            add(str(place).encode())
            add(label.encode())
            add(side.digest_of(place))
    return digest.hexdigest()
