from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sharcs_pl.core.literal import literal

STRANGE = st.lists(
    st.sampled_from(["$", "{", "}", "\\", "a", "'", '"', ":", "?", "${", "\\${", "oc.env", "[", ","]), max_size=9
).map("".join)


@dataclass
class Schema:
    text: str = ""
    values: list[Any] = field(default_factory=list)
    any: Any = None


@given(STRANGE.filter(lambda text: text != "???"))
def test_omegaconf_gives_every_text_back_as_it_is(text: str) -> None:
    plain = {"text": text, "values": [text, [text], 1], "any": {"x": text, "y": None}}
    found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Schema), literal(plain)))
    assert found == Schema(**plain)
    again = OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(literal(plain))))
    assert OmegaConf.to_container(again, resolve=True) == plain


def test_a_tuple_becomes_a_list_and_what_is_no_text_stays() -> None:
    assert literal({"a": (1, "${b}", None, 2.5, True)}) == {"a": [1, "\\${b}", None, 2.5, True]}
