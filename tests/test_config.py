import hashlib
import json
import math
import subprocess
import sys
from dataclasses import field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.dataclasses import dataclass

from harness.config import STRICT, build, digest, file_digest, home, merge, parse_settings, plain, read_yaml
from harness.errors import ConfigError
from tests.characters import CHARACTERS


@dataclass(frozen=True, config=STRICT)
class Wheel:
    spokes: int = 12
    rims: tuple[str, ...] = ()


@dataclass(frozen=True, config=STRICT)
class Cart:
    kind: Literal["hand", "horse"]
    wheel: Wheel = field(default_factory=Wheel)
    spare: Wheel | None = None
    load_kg: float = 0.0


def test_builds_nested_records_from_plain_values():
    cart = build(Cart, {"kind": "hand", "wheel": {"spokes": 8, "rims": ["steel"]}, "load_kg": 3}, where="cart.yaml")
    assert cart == Cart("hand", Wheel(8, ("steel",)), None, 3.0)


def test_a_record_survives_its_own_plain_form():
    cart = Cart("horse", Wheel(8, ("steel", "wood")), Wheel())
    assert build(Cart, json.loads(json.dumps(plain(cart))), where="") == cart


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "hand", "wheels": 1}, r"cart.yaml: unknown key 'wheels'. Did you mean 'wheel'\?"),
        ({"kind": "hand", "zzz": 1}, r"unknown key 'zzz'. Known: kind, load_kg, spare, wheel."),
        ({"kind": "hand", "wheel": {"spoke": 1}}, r"unknown key 'wheel.spoke'. Did you mean 'wheel.spokes'\?"),
        ({"kind": "hand", "wheel": {"zzz": 1}}, r"unknown key 'wheel.zzz'. Known: rims, spokes."),
        ({}, r"cart.yaml: 'kind' is missing."),
        ({"kind": "dog"}, r"'kind': Input should be 'hand' or 'horse' \(found 'dog'\)"),
        ({"kind": "hand", "load_kg": "heavy"}, r"'load_kg'.*valid number.*found 'heavy'"),
        ({"kind": "hand", "wheel": {"rims": "steel"}}, r"'wheel.rims'.*valid tuple \(found 'steel'\)"),
        ({"kind": "hand", "wheel": 3}, r"'wheel'.*\(found 3\)"),
        ({"kind": "hand", 3: 4}, r"'3': Keys should be strings"),
        (3, r"cart.yaml: expected keys with values, found 3"),
    ],
)
def test_says_what_does_not_fit(data, message):
    with pytest.raises(ConfigError, match=message):
        build(Cart, data, where="cart.yaml")


def test_says_everything_that_does_not_fit_at_once():
    with pytest.raises(
        ConfigError, match=r"unknown key 'a'(.|\n)*'kind' is missing|'kind' is missing(.|\n)*unknown key 'a'"
    ):
        build(Cart, {"a": 1}, where="cart.yaml")


def test_settings_are_yaml_values_in_nested_mappings():
    found = parse_settings(["cra.n=200", "cra.directions=[u2t, t2u]", "pelm.scorer.name=gpt2", "pelm.on=true", "x=a=b"])
    assert found == {
        "cra": {"n": 200, "directions": ["u2t", "t2u"]},
        "pelm": {"scorer": {"name": "gpt2"}, "on": True},
        "x": "a=b",
    }


def test_the_last_setting_of_a_key_counts():
    assert parse_settings(["a.b=1", "a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["cra.n"], r"--set cra.n: write it as key.subkey=value"),
        (["=1"], "write it as"),
        (["cra..n=1"], "write it as"),
        (["cra.n=[1"], r"--set cra.n=\[1: the value is not valid YAML"),
        (["cra=1", "cra.n=2"], r"--set cra.n=2: 'cra' was already set to a plain value"),
        (["cra.n=2", "cra=1"], r"--set cra=1: 'cra' was already given keys"),
    ],
)
def test_refuses_settings_that_say_nothing_or_two_things(pairs, message):
    with pytest.raises(ConfigError, match=message):
        parse_settings(pairs)


def test_merges_leaves_and_replaces_lists():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert merge(base, {"a": {"c": [3]}, "e": {"f": 5}}) == {"a": {"b": 1, "c": [3]}, "d": 4, "e": {"f": 5}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


def test_a_section_and_a_plain_value_replace_each_other():
    assert merge({"a": {"b": 1}}, {"a": None}) == {"a": None}
    assert merge({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}


TREES = st.recursive(
    st.integers() | st.text(CHARACTERS, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


@given(MAPPINGS, MAPPINGS)
def test_merging_takes_every_leaf_of_the_second(base, over):
    merged = merge(base, over)
    assert merge(merged, over) == merged
    assert merge(base, {}) == base
    assert merge({}, over) == over


def test_reads_a_mapping(tmp_path):
    (tmp_path / "a.yaml").write_text("a: {b: [1, 2]}\nc: null\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"b": [1, 2]}, "c": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not valid YAML"),
        ("- 1\n- 2\n", "must hold a mapping of keys to values; found list"),
        ("", "found NoneType"),
        ("a: 1\nb: 2\na: 1\n", "the key 'a' is given twice"),
        ("a:\n- {b: {c: 1, 'c': 2}}\n", "the key 'c' is given twice"),
        ("~: a\n~: b\n", "the key 'None' is given twice"),
        ("1: a\n0x1: b\n", "the key '1' is given twice"),
        ("a: !!python/object/apply:os.system [true]", "is not valid YAML"),
    ],
)
def test_refuses_a_file_that_is_no_mapping(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_yaml(tmp_path / "a.yaml")


def test_a_key_may_stand_again_elsewhere_and_in_what_is_merged(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {b: 1, c: 2}\nb: {<<: *a, c: 3}\n~: {~: 1}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"b": 1, "c": 2}, "b": {"b": 1, "c": 3}, None: {None: 1}}


def test_an_absent_file_is_said_to_be_absent(tmp_path):
    with pytest.raises(ConfigError, match=r"no file .*absent.yaml; check the path"):
        read_yaml(tmp_path / "absent.yaml")


def test_plain_values_go_to_json():
    value = {"cart": Cart("hand"), "path": Path("/a/b"), "set": {"b", "a"}, "tuple": (1, None), 3: math.pi}
    assert json.loads(json.dumps(plain(value))) == {
        "cart": {"kind": "hand", "wheel": {"spokes": 12, "rims": []}, "spare": None, "load_kg": 0.0},
        "path": "/a/b",
        "set": ["a", "b"],
        "tuple": [1, None],
        "3": math.pi,
    }


def test_a_digest_is_that_of_the_sorted_json():
    expected = hashlib.sha256('{"a":[1,"ü"],"b":{"c":null}}'.encode()).hexdigest()
    assert digest({"b": {"c": None}, "a": (1, "ü")}) == expected


def test_a_digest_is_the_same_in_a_process_that_hashes_otherwise():
    value = {"names": sorted({"a", "b"}), "cart": {"kind": "hand", "load": 0.1}}
    code = f"from harness.config import digest; print(digest({{'cart': {value['cart']}, 'names': set('ab')}}))"
    found = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == digest(value)


@given(MAPPINGS, MAPPINGS)
def test_different_values_have_different_digests(a, b):
    assert (digest(a) == digest(b)) == (a == b)


def test_a_file_digest_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_state_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    assert home() == tmp_path


@pytest.mark.parametrize("value", [None, ""])
def test_state_lies_in_the_users_cache_otherwise(monkeypatch, value):
    monkeypatch.delenv("HARNESS_HOME") if value is None else monkeypatch.setenv("HARNESS_HOME", value)
    assert home().name == "sutlm-harness"


def test_a_folder_and_a_file_in_another_encoding_are_no_yaml_files(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    for path in (tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(ConfigError, match="cannot be read as a YAML file in UTF-8"):
            read_yaml(path)
