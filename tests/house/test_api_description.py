"""The description of the REST API: whole, up to date, and nothing in it is taken away unseen. Its page."""

import copy
import json
from pathlib import Path

import yaml
from django.test import Client
from jsonschema import Draft202012Validator

from chatsite.api_docs.description import METHODS, as_yaml, breaking, description, followed

FILE = Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"


def operations():
    for path, methods in description()["paths"].items():
        for method in METHODS:
            if method in methods:
                yield f"{method.upper()} {path}", methods[method]


def test_the_description_that_is_checked_in_is_what_the_code_answers():
    """Whoever changes an answer writes docs/openapi.yaml anew, on purpose: `manage.py api_schema --write`."""
    kept = yaml.safe_load(FILE.read_text())

    assert breaking(kept, description()) == [], "programs that were written for it would miss this"
    assert FILE.read_text() == as_yaml(description()), "run `manage.py api_schema --write`"


def test_every_operation_says_what_it_needs_takes_tells_and_refuses():
    names = [operation["operationId"] for _, operation in operations()]

    assert len(set(names)) == len(names)
    for name, operation in operations():
        assert operation["summary"], name
        assert "Scope of a key:" in operation["description"], name
        assert operation["security"][0]["key"], name
        assert {"400", "401", "403", "404", "429", "503"} <= set(operation["responses"]), name
        told = next(said for status, said in operation["responses"].items() if status < "300")
        assert "content" not in told or told["content"]["application/json"]["examples"], name


def test_every_example_is_what_its_schema_says():
    described = description()
    for name, operation in operations():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for said in [*bodies, *operation["responses"].values()]:
            content = followed(described, said).get("content", {}).get("application/json", {})
            for example in content.get("examples", {}).values():
                problems = Draft202012Validator({**content["schema"], "components": described["components"]})
                assert list(problems.iter_errors(json.loads(json.dumps(example["value"])))) == [], name


def test_what_programs_would_miss_is_named():
    before, now = description(), copy.deepcopy(description())
    del now["paths"]["/api/v1/usage"]
    listing = now["paths"]["/api/v1/conversations"]["get"]
    listing["parameters"] = [row for row in listing["parameters"] if row["name"] != "archived"]
    del now["components"]["schemas"]["Kept"]["properties"]["title"]
    now["components"]["schemas"]["Question"]["required"].append("chatId")

    found = breaking(before, now)

    for line in (
        "GET /api/v1/usage is gone",
        "GET /api/v1/conversations: the parameter query archived is not taken any more",
        "GET /api/v1/conversations: 200 tells no title any more",
        "POST /api/v1/chat: the field chatId has become required",
    ):
        assert line in found
    assert breaking(before, before) == []


def test_the_description_is_served_in_both_forms(world, monkeypatch):
    client = Client(headers={"host": "act.localhost"})
    client.get("/api/schema/?format=yaml")
    dumped = []
    monkeypatch.setattr(yaml, "dump", lambda *asked, **how: dumped.append(asked) or "")

    assert client.get("/api/schema/?format=yaml").status_code == 200
    assert not dumped, "nobody has us write it again and again"
    monkeypatch.undo()
    assert client.get("/api/schema/").json()["openapi"] == "3.1.0"
    assert yaml.safe_load(client.get("/api/schema/?format=yaml").content) == yaml.safe_load(as_yaml(description()))
    assert client.get("/api/schema/?format=xml").status_code == 400
