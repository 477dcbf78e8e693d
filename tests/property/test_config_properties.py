"""Whatever is given, each mistake is named, each right value survives, and no secret is shown."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from worker.core.config import build_rule, load_values
from worker.core.secret import Certificates, SecretStr

SECRET = "Zq7Xv9KwjR4tYb2N"


def check_key(key: SecretStr) -> SecretStr:
    if not key.get_secret_value().startswith("key-"):
        raise ValueError("must start with key-")
    return key


class Example(msgspec.Struct, rename="upper"):
    """A declaration with a field of each type."""

    label: Annotated[str, Meta(min_length=1)]
    count: Annotated[int, Meta(ge=1, le=10)] = 3
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    limit: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="a limit")] = None
    on: bool = True
    level: Literal["low", "high"] = "low"
    names: tuple[str, ...] = ()
    folder: Path | None = None
    ca: Certificates | None = None
    key: Annotated[SecretStr, build_rule(check=check_key)] | None = None
    address: Annotated[str, Meta(pattern="^https:"), build_rule(is_hidden=True)] = "https:"


PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
RIGHT: Mapping[str, st.SearchStrategy[Any]] = {
    "LABEL": st.text(min_size=1),
    "COUNT": st.integers(1, 10),
    "SHARE": st.floats(0, 1, exclude_min=True),
    "LIMIT": st.none() | st.integers(min_value=0),
    "ON": st.booleans(),
    "LEVEL": st.sampled_from(["low", "high"]),
    "NAMES": st.lists(st.text()).map(tuple),
    "FOLDER": st.none() | st.just(Path("/folder")),
    "CA": st.none() | st.just(PEM),
    "KEY": st.none() | st.just(f"key-{SECRET}"),
    "ADDRESS": st.just(f"https://{SECRET}@example.com"),
}
NO_VALUE = st.sampled_from([math.nan, math.inf, [], [1], {}, {"a": 1}, b"x", object(), 10**400])
WRONG: Mapping[str, st.SearchStrategy[Any]] = {
    "LABEL": NO_VALUE | st.integers() | st.just(""),
    "COUNT": NO_VALUE | st.none() | st.booleans() | st.text() | st.integers(min_value=11),
    "SHARE": NO_VALUE | st.none() | st.booleans() | st.text() | st.floats(max_value=0),
    "LIMIT": st.booleans() | st.text() | st.integers(max_value=-1) | st.floats(),
    "ON": NO_VALUE | st.none() | st.text() | st.integers(),
    "LEVEL": NO_VALUE | st.none() | st.booleans() | st.text(max_size=2) | st.just("\udc80"),
    "NAMES": st.none() | st.text() | st.just([None]) | st.just({}),
    "FOLDER": NO_VALUE | st.just([SECRET]),
    "CA": NO_VALUE | st.just(SECRET),
    "KEY": NO_VALUE | st.just(SECRET) | st.just([SECRET]),
    "ADDRESS": NO_VALUE | st.none() | st.just(f"http://{SECRET}@example.com"),
}
cases = st.fixed_dictionaries(
    {},
    optional={
        name: st.tuples(st.just(True), RIGHT[name]) | st.tuples(st.just(False), WRONG[name])
        for name in RIGHT
    },
)


@given(cases=cases, unknown=st.sets(st.text(alphabet="xyz", min_size=1, max_size=60), max_size=3))
@example(cases=dict.fromkeys(("KEY", "CA"), (False, SECRET)), unknown=set())
@settings(max_examples=150, deadline=None)
def test_each_mistake_is_named_and_each_right_value_survives(
    cases: dict[str, tuple[bool, Any]], unknown: set[str]
) -> None:
    values = {name: value for name, (_, value) in cases.items()}
    loaded = load_values(Example, values | dict.fromkeys(unknown, SECRET), owner="an example")
    wrong = {name for name, (is_right, _) in cases.items() if not is_right}
    missing = {"LABEL"} - values.keys()
    named = [one.name for one in loaded.mistakes]
    assert set(named[: len(wrong | missing)]) == wrong | missing
    assert len(named) == len(wrong | missing) + bool(unknown)
    assert all(name[:40] in named[-1] for name in unknown)
    assert loaded.values.keys() == {name.lower() for name in values.keys() - wrong}
    for field, value in loaded.values.items():
        assert value == values[field.upper()] or field in ("ca", "key")
    said = "; ".join(map(str, loaded.mistakes))
    assert SECRET not in said
    assert SECRET not in repr(Example(**({"label": "x"} | drop_address(loaded.values))))
    assert said.isprintable()


def drop_address(values: dict[str, Any]) -> dict[str, Any]:
    """A hidden text is for a check that the type cannot express; it is stored in the open."""
    return {field: value for field, value in values.items() if field != "address"}


texts = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.text(),
    st.sampled_from(
        [" 7 ", "+7", "7.0", "0_7", "1_0", "07", "null", "true", "", "\udc80", "\uff17"]
    ),
)


@given(texts=st.fixed_dictionaries({}, optional=dict.fromkeys(RIGHT, texts)))
@settings(max_examples=150, deadline=None)
def test_texts_are_converted_or_named(texts: dict[str, str]) -> None:
    loaded = load_values(Example, {"LABEL": "x"} | texts, parses_text=True)
    made = Example(**{"label": "x"} | loaded.values)
    assert 1 <= made.count <= 10
    assert 0 < made.share <= 1
    assert made.limit is None or made.limit >= 0
    assert all(name.strip() == name for name in made.names)
    assert len(loaded.values) + len(loaded.mistakes) == len({"LABEL", *texts})
