"""Our own access to AWS on the loopback AWS: profiles work as users have them, and our calls know themselves."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret
from tests.scenes import make_role

from firedamp.service.aws import Aws
from firedamp.service.loopback import Loopback, LoopbackKey
from firedamp.service.loopback_identity import one_time_code
from firedamp.storage import nonce
from firedamp.storage.errors import AwsFailure
from firedamp.storage.records import OwnCall
from firedamp.storage.refusals import failures
from firedamp.storage.secret import Secret


def configure(aws: Loopback, key: LoopbackKey, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    folder = Path.home() / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        f"[default]\naws_access_key_id={key.id}\naws_secret_access_key={key.secret.reveal()}\n"
    )
    (folder / "config").write_text(f"[default]\nregion = eu-west-1\n{more}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)


def make(calls: list[OwnCall] | None = None) -> Aws:
    written = [] if calls is None else calls
    return Aws(now=lambda: datetime.now(UTC), random=os.urandom, write_down=written.append)


def test_the_identity_is_the_profiles(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(aws, aws.admin, monkeypatch)
    assert make().identity() == aws.client("sts").get_caller_identity()["Arn"]
    with pytest.raises(AwsFailure, match="no-such-profile"):
        make().identity("no-such-profile")


def test_a_call_with_a_purpose_is_written_down_before_it_is_sent_and_carries_its_nonce(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(aws, aws.admin, monkeypatch)
    calls: list[OwnCall] = []
    ours = make(calls)
    with ours.about("AKIAEXAMPLEEXAMPLE22"):
        ours.iam(purpose="net").list_users()
    ours.iam(purpose="net").list_users()
    ours.sts().get_caller_identity()
    first, second = calls
    assert (first.key_id, first.principal, first.call) == ("AKIAEXAMPLEEXAMPLE22", aws.admin.id, "iam:ListUsers")
    assert second.key_id is None
    assert first.nonce != second.nonce
    events = aws.client("cloudtrail").lookup_events()["Events"]
    agents = {json.loads(event["CloudTrailEvent"])["userAgent"] for event in events}
    assert {mark for agent in agents for mark in nonce.found(agent)} == {first.nonce, second.nonce}
    assert all("firedamp" in agent for agent in agents if "list" in agent.lower())


def test_a_retry_is_a_request_of_its_own(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(aws, aws.admin, monkeypatch)
    calls: list[OwnCall] = []
    aws.refuse_next("iam:ListUsers", "Throttling", "Rate exceeded", times=1)
    make(calls).iam(purpose="net").list_users()
    assert len({call.nonce for call in calls}) == len(calls) == 2


def test_what_aws_refuses_says_what_was_tried_and_what_to_do(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.add_user("nobody")
    configure(aws, aws.add_key("nobody"), monkeypatch)
    ours = make()
    with (
        pytest.raises(AwsFailure, match="users cannot be listed: AccessDenied") as caught,
        failures("users cannot be listed"),
    ):
        ours.iam().list_users()
    assert "deploy/policies" in caught.value.hint
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(AwsFailure, match="cannot be asked"):
        make().identity()


def test_a_throttled_call_says_to_wait(aws: Loopback) -> None:
    aws.refuse_next("iam:ListUsers", "Throttling", "Rate exceeded")
    with pytest.raises(AwsFailure, match="Throttling") as caught, failures("users cannot be listed"):
        aws.client("iam").list_users()
    assert caught.value.hint.startswith("the same again in a minute")


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("with an explicit deny in a service control policy", "a service control policy denies it: no other policy"),
        ("with an explicit deny in a permissions boundary", "a permissions boundary denies it"),
        ("with an explicit deny in an identity-based policy", "an identity-based policy denies it"),
        ("because no session policy allows the iam:ListUsers action", "its session policy must allow it, too"),
        ("because no permissions boundary allows the iam:ListUsers action", "its permissions boundary must allow it"),
        ("because no identity-based policy allows the iam:ListUsers action", "the policies that firedamp needs"),
        ("", "the policies that firedamp needs"),
    ],
)
def test_what_is_denied_elsewhere_than_in_the_callers_own_policy_is_said(
    reason: str, hint: str, aws: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(aws, aws.admin, monkeypatch)
    message = f"User: arn:aws:iam::1:user/a is not authorized to perform: iam:ListUsers on resource: * {reason}"
    aws.refuse_next("iam:ListUsers", "AccessDenied", message)
    with pytest.raises(AwsFailure) as caught, failures("users cannot be listed"):
        make().iam().list_users()
    assert caught.value.hint.startswith(hint)


def test_a_role_is_assumed_once_for_many_processes(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    trust = {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": aws.account}}]}
    role = aws.client("iam").create_role(RoleName="audit", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    configure(aws, aws.admin, monkeypatch, f"[profile audit]\nrole_arn = {role}\nsource_profile = default\n")
    assert "assumed-role/audit/" in make().identity("audit")
    (cached,) = (Path.home() / ".aws" / "cli" / "cache").iterdir()
    assert cached.stat().st_mode & 0o777 == 0o600
    before = len(aws.client("cloudtrail").lookup_events(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "AssumeRole"}])["Events"])  # fmt: skip
    assert "assumed-role/audit/" in make().identity("audit")
    after = len(aws.client("cloudtrail").lookup_events(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "AssumeRole"}])["Events"])  # fmt: skip
    assert before == after == 1


def test_a_cache_that_is_cut_short_or_cannot_be_written_is_no_obstacle(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = make_role(aws, "audit", {"AWS": aws.account})
    configure(aws, aws.admin, monkeypatch, f"[profile audit]\nrole_arn = {role}\nsource_profile = default\n")
    cache = Path.home() / ".aws" / "cli" / "cache"
    make().identity("audit")
    (cached,) = cache.iterdir()
    for broken in ('{"Credentials": {"Acc', "{}", "[]", '{"Credentials": {"AccessKeyId": "x"}}'):
        cached.write_text(broken)
        assert "assumed-role/audit/" in make().identity("audit")
        assert "SessionToken" in cached.read_text(), "it is written anew"
    cached.unlink()
    cache.rmdir()
    cache.write_text("no folder")
    assert "assumed-role/audit/" in make().identity("audit")


def test_a_setting_that_no_client_can_be_made_with_ends_in_words(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(aws, aws.admin, monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "no url")
    with pytest.raises(AwsFailure, match="Invalid endpoint: no url"):
        make().identity()
    monkeypatch.setenv("AWS_PROFILE", "none-such")
    with pytest.raises(AwsFailure, match="the AWS profile none-such cannot be used"):
        make().identity()
    monkeypatch.delenv("AWS_PROFILE")
    (Path.home() / ".aws" / "config").write_text("[default\n")
    with pytest.raises(AwsFailure, match="the AWS profile default cannot be used: Unable to parse") as caught:
        make().identity()
    assert caught.value.hint == "mend that file"


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "iam.amazonaws.com"),
        ("cn-northwest-1", "iam.cn-north-1.amazonaws.com.cn"),
        ("us-gov-east-1", "iam.us-gov.amazonaws.com"),
        ("no-such-region", "iam.amazonaws.com"),
    ],
)
def test_iam_is_asked_in_the_partition_of_the_profile(region: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    (Path.home() / ".aws").mkdir()
    (Path.home() / ".aws" / "config").write_text(f"[default]\nregion = {region}\n")
    assert make().iam().meta.endpoint_url == f"https://{host}"


def test_a_leaked_key_is_used_in_its_own_partition_whatever_our_region_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    leaked = make().leaked("AKIAIOSFODNN7EXAMPLE", Secret("x"), None, "aws-cn")
    assert leaked.iam().meta.endpoint_url == "https://iam.cn-north-1.amazonaws.com.cn"


BROKEN = {
    "no JSON": "credential_process = echo words",
    "expired": "credential_process = echo '"
    '{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": "2020-01-01T00:00:00Z"}'
    "'",
    "no program": "credential_process = /no/such/program",
    "no quote": 'credential_process = "no end',
    "no token": "role_arn = arn:aws:iam::123456789012:role/r\nweb_identity_token_file = /no/such/file",
    "sso": "sso_session = corp\nsso_account_id = 123456789012\nsso_role_name = r",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_profile_whose_credentials_cannot_be_had_is_named_with_what_to_do(
    kind: str, aws: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = "[sso-session corp]\nsso_start_url = https://x.example/start\nsso_region = us-east-1\n"
    configure(aws, aws.admin, monkeypatch, f"[profile broken]\n{BROKEN[kind]}\n{session}")
    with pytest.raises(AwsFailure, match="the AWS profile broken cannot be used: ") as caught:
        make().identity("broken")
    if kind == "sso":
        cached = Path.home() / ".aws" / "sso" / "cache" / f"{hashlib.sha1(b'corp').hexdigest()}.json"  # noqa: S324 - its name
        cached.parent.mkdir(parents=True)
        cached.write_text("{cut")
        with pytest.raises(AwsFailure) as again:
            make().identity("broken")
        assert again.value.hint == caught.value.hint
    expected = "aws sso login --profile broken" if kind == "sso" else "look at the profile broken in ~/.aws/config"
    assert caught.value.hint.startswith(expected)


def test_a_profile_without_credentials_and_one_whose_role_is_refused_say_so(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"[profile role]\nrole_arn = arn:aws:iam::{aws.account}:role/none\nsource_profile = default\n"
    configure(aws, aws.admin, monkeypatch, f"[profile bare]\nregion = us-east-1\n{role}")
    with pytest.raises(AwsFailure, match="who the AWS profile bare is cannot be asked: there are no credentials"):
        make().identity("bare")
    with pytest.raises(AwsFailure, match="the AWS profile role cannot be used: AccessDenied") as caught:
        make().identity("role")
    assert "trust policy" in caught.value.hint


def test_a_clock_that_is_wrong_is_said_to_be_so(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(aws, aws.admin, monkeypatch)
    for hours in (1, -1):
        aws.wall = lambda hours=hours: datetime.now(UTC) + timedelta(hours=hours)
        with pytest.raises(AwsFailure, match="SignatureDoesNotMatch: Signature") as caught:
            make().identity()
        assert caught.value.hint.startswith("set the clock of this machine")


def test_a_key_that_aws_does_not_know_and_a_session_that_iam_does_not_take_are_said_to_be_so(
    aws: Loopback, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(aws, LoopbackKey(make_key_id(rng), Secret(make_secret(rng))), monkeypatch)
    with pytest.raises(AwsFailure, match="InvalidClientTokenId") as caught:
        make().identity()
    assert "unknown to AWS or inactive" in caught.value.hint
    session = aws.client("sts").get_session_token()["Credentials"]
    for name, field in (("ACCESS_KEY_ID", "AccessKeyId"), ("SECRET_ACCESS_KEY", "SecretAccessKey"),
                        ("SESSION_TOKEN", "SessionToken")):  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", session[field])
    assert make().identity().endswith(":user/admin")
    with pytest.raises(AwsFailure, match="InvalidClientTokenId") as caught, failures("users cannot be listed"):
        make().iam().list_users()
    assert "GetSessionToken without MFA" in caught.value.hint


class Device:
    """An MFA device, and a profile that needs it: `mfa`."""

    def __init__(self, aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
        iam, now = aws.client("iam"), datetime.now(UTC)
        device = iam.create_virtual_mfa_device(VirtualMFADeviceName="admin")["VirtualMFADevice"]
        self._seed = device["Base32StringSeed"].decode()
        first, second = (one_time_code(self._seed, now - timedelta(seconds=each)) for each in (30, 0))
        iam.enable_mfa_device(
            UserName="admin", SerialNumber=device["SerialNumber"], AuthenticationCode1=first, AuthenticationCode2=second
        )
        trust = {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": aws.account},
                                "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}]}  # fmt: skip
        role = iam.create_role(RoleName="ops", AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        profile = f"role_arn = {role}\nsource_profile = default\nmfa_serial = {device['SerialNumber']}\n"
        configure(aws, aws.admin, monkeypatch, f"[profile mfa]\n{profile}")

    def code(self) -> str:
        """Return the code it shows now, as it shows it."""
        code = one_time_code(self._seed, datetime.now(UTC))
        return f"{code[:3]} {code[3:]}"


ASK = """
import os
from datetime import UTC, datetime
from firedamp.service.aws import Aws
from firedamp.storage.errors import Failure
try:
    print(Aws(now=lambda: datetime.now(UTC), random=os.urandom, write_down=print).identity("mfa"))
except Failure as failure:
    print(failure)
"""


IN_TIME = "import os\nfrom firedamp.storage.deadline import within"


def typed(keys: Sequence[str], ask: str = ASK) -> str:
    """Ask for the identity in a terminal, type what is given, and return what the terminal shows."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", ask])  # noqa: S606 - Python itself
    shown, left = b"", list(keys)
    while True:
        try:
            shown += os.read(terminal, 1000)
        except OSError:
            break
        if left and shown.endswith(b": "):  # the echo is off by then: what is typed before that is thrown away
            os.write(terminal, left.pop(0).encode())
    os.close(terminal)
    os.waitpid(child, 0)
    return shown.decode()


def test_no_mfa_code_is_asked_for_where_a_deadline_would_leave_the_terminal_without_its_echo(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    Device(aws, monkeypatch)
    ask = ASK.replace("print(Aws", "within(300, lambda: Aws").replace("import os", IN_TIME)
    assert typed([], ask).startswith("the AWS profile mfa needs an MFA code, and nobody types one here")


def test_no_mfa_code_is_asked_for_in_the_middle_of_a_watch(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    Device(aws, monkeypatch)
    told = typed([], ASK.replace("write_down=print", "write_down=print, asking=False"))
    assert "aws sts get-caller-identity --profile mfa   in a terminal" in told


def test_an_mfa_code_is_typed_as_the_device_shows_it(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(aws, monkeypatch)
    for keys, said in (
        ("000000\n", "a new code (each works once)"),
        ("\n", "six digits"),
        ("\x04", "nobody types one"),
    ):
        assert said in typed([keys])
    shown = typed([device.code() + "\n"])
    assert "assumed-role/ops/" in shown
    assert "assumed-role/ops/" in make().identity("mfa"), "what a terminal began, a service goes on with"


def test_without_a_terminal_no_code_is_read_from_anywhere(aws: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(aws, monkeypatch)
    done = subprocess.run(
        [sys.executable, "-c", ASK], input=device.code(), capture_output=True, text=True, check=True,
        start_new_session=True,
    )  # fmt: skip
    assert done.stdout.startswith("the AWS profile mfa needs an MFA code, and nobody types one here")
    assert done.stderr == ""


def test_a_session_that_has_ended_is_begun_anew_by_what_a_terminal_typed_meanwhile_and_nobody_is_asked(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(aws, monkeypatch)
    typed([device.code() + "\n"])
    own = make()
    client = own.sts(profile="mfa")
    cached = list(Path("~/.aws/cli/cache").expanduser().iterdir())
    kept = {file: file.read_bytes() for file in cached}
    for file in cached:
        file.unlink()
    own.session("mfa").get_credentials()._expiry_time = datetime.now(UTC) - timedelta(hours=1)
    for _ in range(2):  # and not the second time either
        with pytest.raises(AwsFailure, match="the session that an MFA code began for the AWS profile mfa has ended"):
            own.sts(profile="mfa")
    for file, content in kept.items():
        file.write_bytes(content)
    assert own.sts(profile="mfa") is not client
    assert "assumed-role/ops/" in own.identity("mfa")
