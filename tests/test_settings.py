"""`--set field=value`: what is understood, and what a refusal says."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator

from fssbench.errors import MethodError
from fssbench.method import MethodConfig
from fssbench.settings import describe_settings, parse_settings


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str = "resnet50"
    size: tuple[int, int] = (417, 417)
    stages: tuple[PositiveInt, ...] = Field((1, 3, 6), min_length=1)
    kernel: Literal[2, 3] = 2
    fusion: Literal["mean", "or"] = Field("mean", description="of shots")
    limit: int | None = None
    rate: float = Field(0.5, ge=0, lt=1)
    on: bool = False

    @field_validator("backbone")
    @classmethod
    def _no_blanks(cls, name: str) -> str:
        if " " in name:
            raise ValueError("expected no blanks")
        return name


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("backbone=vgg16", "backbone", "vgg16"),
        ("backbone=a=b", "backbone", "a=b"),
        ("size=321,481", "size", (321, 481)),
        ("size = (321, 481)", "size", (321, 481)),
        ("stages=2", "stages", (2,)),
        ("kernel=3", "kernel", 3),
        ("fusion=or", "fusion", "or"),
        ("limit=none", "limit", None),
        ("limit=7", "limit", 7),
        ("rate=1e-1", "rate", 0.1),
        ("on=true", "on", True),
    ],
)
def test_text_becomes_the_fields_type(text: str, field: str, value: object) -> None:
    assert getattr(parse_settings(Config, [text]), field) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size=321", "setting 'size': expected 2 values separated by commas, each a whole number"),
        ("stages=0", "each a whole number, above 0"),
        ("stages=", "at least 1"),
        ("kernel=4", "setting 'kernel': expected one of 2, 3, found '4'"),
        ("fusion=max", "expected one of mean, or, found 'max'"),
        ("limit=x", "expected a whole number or none, found 'x'"),
        ("rate=1", "expected a number, at least 0, below 1, found '1'"),
        ("on=perhaps", "expected true or false, found 'perhaps'"),
        ("fusoin=or", "unknown setting 'fusoin': did you mean 'fusion'"),
        ("fusion", "expected --set FIELD=VALUE, found 'fusion'"),
        ("backbone=a b", "expected no blanks"),
    ],
)
def test_a_refusal_names_the_field_and_what_it_takes(text: str, message: str) -> None:
    with pytest.raises(MethodError) as caught:
        parse_settings(Config, [text])
    assert message in str(caught.value)


def test_the_last_setting_wins_over_earlier_ones_and_over_the_base() -> None:
    config = parse_settings(Config, ["rate=0.1", "rate=0.2"], base={"rate": 0.9, "size": [1, 2]})
    assert (config.rate, config.size) == (0.2, (1, 2))


def test_a_field_without_default_is_asked_for() -> None:
    class Needs(BaseModel):
        backbone: str

    with pytest.raises(MethodError, match="setting 'backbone' has no default"):
        parse_settings(Needs)


def test_fields_are_described_with_default_bounds_and_words() -> None:
    described = {setting.name: setting for setting in describe_settings(Config)}
    assert described["stages"].default == "1,3,6"
    assert described["limit"].default == "none"
    assert described["rate"].allowed == "a number, at least 0, below 1"
    assert described["fusion"].description == "of shots"


def test_every_default_is_text_that_parses_back() -> None:
    defaults = [f"{setting.name}={setting.default}" for setting in describe_settings(Config)]
    assert parse_settings(Config, defaults) == Config()


def test_bounds_of_items_are_described() -> None:
    class Shares(BaseModel):
        shares: list[Annotated[float, Field(gt=0, le=1)]] = []

    assert describe_settings(Shares)[0].allowed == "values separated by commas, each a number, above 0, at most 1"


class Newer(MethodConfig):
    retired = frozenset({"chunk_megabytes"})

    backbone: str = "resnet50"
    width: int = 8


def test_a_retired_option_is_read_past_in_a_checkpoint_and_refused_from_a_user() -> None:
    assert parse_settings(Newer, base={"chunk_megabytes": 64, "width": 4}) == Newer(width=4)
    with pytest.raises(MethodError, match="unknown setting 'chunk_megabytes'"):
        parse_settings(Newer, ["chunk_megabytes=64"])
    with pytest.raises(MethodError, match="chunk_gigabytes"):
        parse_settings(Newer, base={"chunk_gigabytes": 1})
