"""Names that decide no bytes: what the code calls a part, a class or a size is no part of an identity."""

from dataclasses import dataclass, fields

import pytest
import torch

from gnvc_vd.codecs.load import load
from gnvc_vd.learned.bottleneck.hyperprior import TemporalState
from gnvc_vd.learned.bottleneck.schema import SCHEMA, coded_identity, sizes_text, stored_names, stored_tensors
from gnvc_vd.learned.codec import shown_identity_of
from gnvc_vd.presets import ContextualPreset
from tests.learned.bottleneck.models import NANO, from_generator

TINY = "7a5d07e9565918f9", "c90b4cfd"


def test_the_shipped_model_has_the_identities_that_its_streams_name() -> None:
    tiny = load()
    assert (tiny.coded_identity.hex(), tiny.shown_identity.hex()) == TINY


def test_a_renamed_attribute_and_a_renamed_class_keep_identity_and_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory(TemporalState):
        """The same part as another version of the code might have it."""

    model, backbone = from_generator(), load("nano").backbone
    before = coded_identity(model), shown_identity_of(backbone, model, {})
    kept = dict(stored_tensors(model))

    memory = model.state
    memory.__class__ = Memory
    memory.first_layer, model.memory = memory.begin, memory
    del memory.begin, model.state
    parts = {attribute: name for attribute, name in SCHEMA[type(model)].items() if attribute != "state"}
    monkeypatch.setitem(SCHEMA, type(model), parts | {"memory": "state"})
    monkeypatch.setitem(SCHEMA, Memory, {"first_layer": "begin", "move": "move"})

    assert "memory.first_layer.weight" in stored_names(model)
    assert (coded_identity(model), shown_identity_of(backbone, model, {})) == before
    found = stored_tensors(model)
    assert found.keys() == kept.keys() and all(torch.equal(found[name], kept[name]) for name in kept)


def test_what_has_no_written_name_is_refused() -> None:
    model = from_generator()
    model.register_buffer("novel", torch.zeros(1, dtype=torch.int64))
    with pytest.raises(LookupError, match="novel has no stored name"):
        coded_identity(model)


def test_a_renamed_preset_with_a_field_more_is_said_as_before() -> None:
    @dataclass(frozen=True)
    class Sizes(ContextualPreset):
        levels: int = 64

    own = {field.name: getattr(NANO, field.name) for field in fields(NANO)}
    assert sizes_text(Sizes(**own)) == sizes_text(NANO)
    said = "features=16, width=16, symbols=16, hyper=4, prior=16, state=16, blocks=1"
    assert sizes_text(NANO) == f"BottleneckPreset({said})"  # what version 1 hashed
