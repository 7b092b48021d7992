"""How TensorBoard's event files are read."""

import struct
from pathlib import Path

import pytest


@pytest.fixture
def logged():
    """A folder with an event file -> name -> (epoch, value) in the order of writing."""

    def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
        # The module is generated and fills its namespace when it is imported.
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        (file,), found, position = folder.iterdir(), {}, 0
        content = file.read_bytes()
        while position < len(content):  # Records of length, its checksum, content, its checksum.
            (length,) = struct.unpack("<Q", content[position : position + 8])
            event = Event.FromString(content[position + 12 : position + 12 + length])
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            position += length + 16
        return found

    return read
