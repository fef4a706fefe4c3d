"""MCAP files in the layout of `topics.py`: one writer, one reader, one error.

`McapTopicWriter` and `McapTopicReader` are written in `mcap_writer.py` and `mcap_reader.py`; import them from here.
"""

from __future__ import annotations

from runtime.formats.mcap_reader import McapTopicReader, RawMessage
from runtime.formats.mcap_records import McapFileError
from runtime.formats.mcap_writer import McapTopicWriter

__all__ = ["McapFileError", "McapTopicReader", "McapTopicWriter", "RawMessage"]
