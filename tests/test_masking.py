"""What is masked in a path, a chain or a message, and what is ordinary and stays."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import make_key_id, make_secret, make_token

from firedamp.scanner.candidates import Role
from firedamp.scanner.keys import KINDS
from firedamp.storage.masking import MARK, masked

ORDINARY = (
    "/home/alice/.git/objects/3f/786850e387550fdab836ed7e6dc881de23001b3f86850e",
    "/nix/store/4bzjs8x0sn6w8zk8ib1yh8hbvaa9sk6c-aws-sdk-secretsmanager-3.2/lib/Secrets.php",
    "/home/a/node_modules/.pnpm/@aws-sdk+client-secrets-manager@3.499.0_aws-crt@1.20.1/node_modules/x",
    "/var/lib/docker/overlay2/l/6Y5IM2XC7TSNIJZZFLJCS6I4I4SNIJZZFLJCS6I4I4/diff",
    "/home/a/.cache/bazel/_bazel_a/8f1b2c3d4e5f60718293a4b5c6d7e8f901234567/external/aws/AwsSecretAccessKeyProvider.java",
    "/srv/AwsSecretsManagerIntegrationTestConfigurationFactory/aws_secret_access_key_rotation_of_everything.tf",
    "/home/a/.cache/go-build/ab/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG-d",
    "https://git.example.org/team/app.git", "ssh://git@git.example.org/team/app.git", "git@host:team/app.git",
    "library/nginx:1.25@sha256", "C:/Users/Alice/AppData", "da2-something/da2-abc", "bedrock-api-key-rotation-policy",
    "amzn.mws.marketplace", "", "/",
)  # fmt: skip


@pytest.mark.parametrize("path", ORDINARY)
def test_an_ordinary_path_stays_as_it_is(path: str) -> None:
    assert masked(path) == masked(path, across=True) == path


def test_beside_a_key_id_digests_and_names_of_one_case_stay(rng: random.Random) -> None:
    key = make_key_id(rng)
    for behind in ("_accessKeys.csv", f"/{'0123456789abcdef' * 4}", "-of-the-user-who-deploys-all-the-websites"):
        name = key + behind
        assert masked(f"/home/{name}") == f"/home/{name}"


@pytest.mark.parametrize(
    "name",
    ["{0}:{1}", "{0}.{1}.txt", "{0}{1}", "{1}:{0}", "old-{0}_{1}-copy", "aws {0}/backup/{1}", "x=%3A{0}%3A{1}%40host",
     "aws_secret_access_key={1}", "AWS Secret: {1}.txt", "secretAccessKey_{1}", "outer.zip!{0}.{1}.txt"],
)  # fmt: skip
def test_a_secret_beside_what_names_it_is_masked_and_the_rest_stays(name: str, rng: random.Random) -> None:
    key = make_key_id(rng)
    for _ in range(50):
        secret = make_secret(rng).replace("/", "_")
        if re.fullmatch(r"[A-Za-z0-9+]{40}", secret) is None and "{0}" not in name:
            continue
        told = masked("/home/a/" + name.format(key, secret))
        assert secret not in told
        assert MARK in told
        assert key in told or "{0}" not in name


def test_a_secret_that_its_slashes_part_into_folders_is_masked_slash_by_slash(rng: random.Random) -> None:
    key = make_key_id(rng)
    secrets = [secret for secret in (make_secret(rng) for _ in range(500)) if "/" in secret.strip("/")]
    assert len(secrets) > 100
    for secret in secrets:
        told = masked(f"src/{key}:{secret}.txt", across=True)
        assert [piece for piece in secret.split("/") if len(piece) > 3 and piece in told] == []
        assert told.startswith(f"src/{key}:")
        assert told.count("/") == 1 + secret.count("/")


def test_a_credential_that_tells_itself_is_masked_whatever_stands_beside_it(rng: random.Random) -> None:
    whole = [example for kind in KINDS if kind.role in {Role.WHOLE, Role.TOKEN} for example in kind.examples]
    for value in (*whole, make_token(rng, 200)):
        told = masked(f"/home/a/{value.replace('/', '_')}.txt")
        assert told == f"/home/a/{MARK}.txt"


def test_the_login_of_a_url_is_masked() -> None:
    assert masked("https://ci:pass%2Fword@host/x.git") == f"https://{MARK}@host/x.git"
    assert masked("/home/a/mirrors/https:/ci:word@host/x") == f"/home/a/mirrors/https:/{MARK}@host/x"


_NAMES = st.lists(
    st.one_of(
        st.sampled_from(["home", "AKIAIOSFODNN7EXAMPLE", "a1B2c3D4" * 5, "https:", "u:p@h",
                         "aws_secret_access_key=" + "a1B2c3D4" * 5, MARK]),
        st.text("AaBb1+=/_-%.:@! ", max_size=60),
    ),
    max_size=6,
)  # fmt: skip


@given(_NAMES)
def test_a_folder_is_called_the_same_in_the_path_of_all_that_is_in_it(names: list[str]) -> None:
    path = "/".join(["", *names])
    told = masked(path)
    for at, letter in enumerate(path):
        if letter == "/":
            assert told.startswith(masked(path[:at]) + "/")


@given(_NAMES)
def test_what_is_masked_stays_so(names: list[str]) -> None:
    path = "/".join(names)
    across = masked(path, across=True)
    assert masked(masked(path)) == masked(path)
    assert masked(across, across=True) == masked(across) == masked(masked(path), across=True) == across
