"""CODEOWNERS: whose a path is, in the forges' own words."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.repositories import Repository

from firedamp.scanner import owners
from firedamp.scanner.objects import find

# The example of docs.github.com, "About code owners".
GITHUB = """
# This is a comment.
*       @global-owner1 @global-owner2
*.js    @js-owner #This is an inline comment.
*.go docs@example.com
*.txt @octo-org/octocats
/build/logs/ @doctocat
docs/* docs2@example.com
apps/ @octocat
/docs/ @doctocat
/scripts/ @doctocat @octocat
**/logs @octocat
/apps/ @octocat
/apps/github
/apps/github/main @doctocat
with\\ space/x @spacious
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("README", ("@global-owner1", "@global-owner2")),
        ("deep/down/x.js", ("@js-owner",)),
        ("x.go", ("docs@example.com",)),
        ("student/build/logs2", ("@global-owner1", "@global-owner2")),
        ("build/logs/today", ("@octocat",)),
        ("docs/a.md", ("@doctocat",)),
        ("docs/a/b.txt", ("@doctocat",)),
        ("other/apps/x", ("@octocat",)),
        ("scripts/x", ("@doctocat", "@octocat")),
        ("deeply/nested/logs/x", ("@octocat",)),
        ("logs", ("@octocat",)),
        ("apps/x", ("@octocat",)),
        ("apps/github", ()),
        ("apps/github/x", ()),
        ("apps/github/main/x", ("@doctocat",)),
        ("with space/x", ("@spacious",)),
    ],
)
def test_githubs_own_example_reads_as_github_says(path: str, expected: tuple[str, ...]) -> None:
    assert owners.parse(GITHUB).of(path) == expected


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("docs/*", ["docs/a"], ["docs/a/b", "x/docs/a"]),
        ("docs/**", ["docs/a", "docs/a/b"], ["docs2/a"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b/c"], ["a/x", "b"]),
        ("name", ["name", "x/name", "name/x", "x/name/y"], ["names"]),
        ("name/", ["name/x", "x/name/y"], ["name", "x/name"]),
        ("/name", ["name", "name/x"], ["x/name"]),
        ("/", ["a", "a/b"], []),
        ("*", ["a", "a/b"], []),
        ("a[1].tf", ["a[1].tf"], ["a1.tf"]),
        ("a?.tf", ["ab.tf"], ["a.tf", "a/.tf"]),
    ],
)
def test_what_a_pattern_is_about(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    read = owners.parse(f"{pattern} @o")
    assert [path for path in fits if read.of(path) != ("@o",)] == []
    assert [path for path in fits_not if read.of(path)] == []


def test_gitlabs_sections_each_name_somebody_and_may_exclude() -> None:
    read = owners.parse(
        "* @all\n"
        "[Docs] @writers\ndocs/\n*.md @ada\n"
        "^[Database][2] @dba\nmodel/db/\n!model/db/generated/\n"
        "[docs]\n/docs/legal/ @law\n"
    )
    assert read.of("x") == ("@all",)
    assert read.of("docs/x") == ("@all", "@writers")
    assert read.of("docs/x.md") == ("@all", "@ada")
    assert read.of("docs/legal/x") == ("@all", "@law"), "a section may be gone on with"
    assert read.of("model/db/x") == ("@all", "@dba")
    assert read.of("model/db/generated/x") == ("@all",)


def test_lines_that_are_none_are_passed_by() -> None:
    read = owners.parse("* @all\n*.x not an owner\n\\\n/ \n//\n" + "a" * 2000 + " @long\n\x00 @zero\n")
    assert read.of("a.x") == ()
    assert read.of("b") == ()
    assert owners.parse("* @all\n*.x nobody\n").of("a.x") == ("@all",)


@given(st.text(max_size=200), st.text(min_size=1, max_size=40))
def test_no_text_breaks_it(text: str, path: str) -> None:
    assert isinstance(owners.parse(text + "\n* @o").of(path), tuple)


def test_a_pattern_of_stars_costs_no_more_than_its_length() -> None:
    text = "/".join(["**"] * 200) + "/x @a\n" + "*a" * 400 + "b @b\n" + "**/*" * 200 + " @c\n"
    begun = time.process_time()
    owners.parse(text).of("/".join(["a" * 100] * 40))
    assert time.process_time() - begun < 2


def test_the_file_of_head_is_read_from_where_the_forges_look(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r")
    assert owners.of(find(repository.path)) is None, "no commit yet"
    repository.commit("x", {"x": "x"})
    assert owners.of(find(repository.path)) is None
    for place, owner in (("docs", "@docs"), (".", "@root"), (".github", "@github")):
        repository.commit(place, {f"{place}/CODEOWNERS": f"* {owner}\n"})
        repository.git("gc", "--quiet")
        read = owners.of(find(repository.path))
        assert read is not None
        assert read.of("x") == (owner,)
    (tmp_path / "r" / ".github" / "CODEOWNERS").write_text("# " + "x" * (3 << 20) + "\n* @large\n")
    repository.commit("too large")
    read = owners.of(find(repository.path))
    assert read is not None
    assert read.of("x") == ("@root",)
