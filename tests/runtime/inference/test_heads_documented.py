from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from runtime.inference.heads import DECODERS
from runtime.inference.heads.specification import Head

PAGE = Path(__file__).resolve().parents[3] / "deploy" / "HEADS.md"
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_every_example_is_a_head_and_every_decoder_has_one() -> None:
    adapter: TypeAdapter[Head] = TypeAdapter(Head)
    heads = [adapter.validate_python(yaml.safe_load(example)) for example in EXAMPLES]
    assert {head.decoder for head in heads} == set(DECODERS)
