"""What stands in `deploy/` is sound, deploys, and gives the service its rights and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from firedamp.service import needs

DEPLOY = Path(__file__).parent.parent / "deploy"


@pytest.mark.parametrize("role", needs.ROLES)
def test_a_roles_policy_is_what_the_role_calls(role: str) -> None:
    assert (DEPLOY / "policies" / f"{role}.json").read_text() == needs.policy(role)


def test_every_action_of_the_policies_is_explained() -> None:
    assert (DEPLOY / "policies/README.md").read_text().endswith("\n\n" + needs.table().rstrip() + "\n")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # parliament and json-cfg read their data the old way
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("role", needs.ROLES)
def test_parliament_finds_nothing_in_a_policy(role: str) -> None:
    import parliament

    found = parliament.analyze_policy_string(needs.policy(role)).findings
    assert [str(each) for each in found] == []
