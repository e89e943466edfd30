"""What stands in `deploy/` is sound, deploys, and gives the service its rights and no others."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.scenes import DENY_ALL, allow, code, drain, make_queue, session_key, start_trail

from firedamp.service import cli, needs
from firedamp.service.loopback import Loopback, LoopbackKey

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


# CloudFormation, deployed into the loopback AWS.

OPERATOR = "ana"
ENDINGS = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError")


@pytest.mark.parametrize("name", ["last-resort", "canary-account", "audit-account", "regions"])
def test_cfn_lint_finds_nothing_in_a_template(name: str) -> None:
    from cfnlint.api import lint_all

    found = lint_all(template(name))
    assert [each for each in found if each.rule.id[0] in "EW"] == []


def template(name: str) -> str:
    return (DEPLOY / "cloudformation" / f"{name}.yaml").read_text()


def deploy(aws: Loopback, name: str, region: str = "us-east-1", **parameters: str) -> dict[str, str]:
    """Deploy a template and return its outputs."""
    cloudformation = aws.client("cloudformation", region=region)
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    cloudformation.create_stack(
        StackName=f"ledger-{name}", TemplateBody=template(name), Parameters=given, Capabilities=["CAPABILITY_IAM"]
    )
    (stack,) = cloudformation.describe_stacks(StackName=f"ledger-{name}")["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}


def deploy_canary_account(aws: Loopback, **parameters: str) -> dict[str, str]:
    """Deploy what watches an account's canaries; `ana`, who may assume roles and no more, may take each role."""
    aws.add_user(OPERATOR, inline={"roles": allow("sts:AssumeRole")})
    ana = f"arn:aws:iam::{aws.account}:user/{OPERATOR}"
    return deploy(aws, "canary-account", Operators=ana, Watchers=ana, CanaryUsers="svc-", **parameters)


def assume(aws: Loopback, role: str) -> LoopbackKey:
    key = aws.add_key(OPERATOR)
    answer = aws.client("sts", key).assume_role(RoleArn=role, RoleSessionName="test")
    aws.client("iam").delete_access_key(UserName=OPERATOR, AccessKeyId=key.id)  # a user may have two at a time
    return session_key(answer["Credentials"])


def act_as(aws: Loopback, key: LoopbackKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands of this test run as a key."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key.id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret.reveal())
    if key.token is not None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", key.token.reveal())


def incidents(capsys: pytest.CaptureFixture[str], *feeds: str) -> tuple[int, list[dict[str, Any]]]:
    named = [word for feed in feeds for word in ("--feed", feed)]
    capsys.readouterr()
    status = cli.main(["watch", "--once", "--format", "jsonl", *named])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_watch_sees_a_use_by_every_feed_on_exactly_its_rights(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = deploy_canary_account(aws)
    canary = aws.add_user("svc-backup", inline={"none": DENY_ALL})
    cli.main(["canary", "adopt", canary.id, "--arn", f"arn:aws:iam::{aws.account}:user/svc-backup"])
    watcher = assume(aws, outputs["WatchRole"])
    act_as(aws, watcher, monkeypatch)
    assert incidents(capsys, outputs["FilesFeed"], outputs["RecordsFeed"]) == (0, []), "silence, and no complaint"

    aws.client("sts", canary, source_ip="203.0.113.9").get_caller_identity()
    status, (seen,) = incidents(capsys, outputs["RecordsFeed"])
    assert (status, seen["key"], seen["sightings"]["use"]) == (1, canary.id, 1), "by EventBridge, read-only as it is"

    assert code(aws.client("sns", canary).publish, TopicArn="arn:aws:sns:us-east-1:1:x", Message="?") in ENDINGS
    aws.trail.flush()
    status, (seen,) = incidents(capsys, outputs["FilesFeed"])
    assert status == 0, "the same incident"
    assert seen["sightings"]["use"] == 2, "the trail has the data event too, and nothing is counted twice"
    assert incidents(capsys, outputs["BackfillFeed"])[0] == 0

    denied = {
        ("s3", "list_buckets"): {},
        ("s3", "put_object"): {"Bucket": "x", "Key": "y"},
        ("iam", "create_access_key"): {"UserName": "svc-backup"},
        ("iam", "list_access_keys"): {"UserName": "admin"},
        ("iam", "list_users"): {},
        ("sqs", "list_queues"): {},
        ("cloudtrail", "stop_logging"): {"Name": "ledger-canary-account"},
        ("events", "disable_rule"): {"Name": "x"},
        ("sts", "get_federation_token"): {"Name": "fed"},
    }
    for (service, call), arguments in denied.items():
        assert code(getattr(aws.client(service, watcher), call), **arguments) in ENDINGS, call


def test_a_use_in_another_region_comes_home(aws: Loopback) -> None:
    outputs = deploy_canary_account(aws)
    deploy(aws, "regions", "eu-west-1", ForwardRole=outputs["ForwardRole"], CanaryUsers="svc-")
    canary, stranger = aws.add_user("svc-backup"), aws.add_user("bo")
    for key in (canary, stranger):
        aws.client("sts", key, region="eu-west-1").get_caller_identity()
    (event,) = drain(aws, queue_url(aws, outputs["RecordsFeed"]))
    assert (event["region"], event["detail"]["userIdentity"]["accessKeyId"]) == ("eu-west-1", canary.id)


def queue_url(aws: Loopback, feed: str) -> str:
    url: str = aws.client("sqs").get_queue_url(QueueName=feed.rpartition("/")[2])["QueueUrl"]
    return url


def test_data_events_are_logged_of_canaries_only(aws: Loopback) -> None:
    deploy_canary_account(aws)
    canary = aws.add_user("svc-backup", inline={"none": DENY_ALL})
    for key in (canary, aws.admin):
        code(aws.client("s3", key).get_object, Bucket="nobodys", Key="x")
    aws.trail.flush()
    records = [json.loads(each.text) for each in aws.trail.entries if not each.management]
    (bucket,) = (each["Name"] for each in aws.client("s3").list_buckets()["Buckets"])
    listed = aws.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    logged = "".join(
        gzip.decompress(aws.client("s3").get_object(Bucket=bucket, Key=each["Key"])["Body"].read()).decode()
        for each in listed
    )
    by_key = {each["userIdentity"]["accessKeyId"]: each["eventID"] in logged for each in records[:2]}
    assert by_key == {canary.id: True, aws.admin.id: False}


def test_canaries_are_minted_and_audited_on_exactly_the_rights_of_their_roles(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    outputs = deploy_canary_account(aws)
    minter = assume(aws, outputs["MintRole"])
    act_as(aws, minter, monkeypatch)
    made = tmp_path / "canaries.csv"
    mint = ["canary", "mint", "-n", "2", "--name", "svc-{task}-{alnum:4}", "--force", "--output", str(made)]
    assert cli.main([*mint, "--format", "csv"]) == 0, capsys.readouterr().err
    names = {each["UserName"] for each in aws.client("iam").list_users()["Users"]}
    assert len([name for name in names if name.startswith("svc-")]) == 2
    iam = aws.client("iam", minter)
    assert code(iam.create_user, UserName="bo") == code(iam.create_access_key, UserName="admin") == "AccessDenied"
    assert code(iam.attach_user_policy, UserName="svc-x", PolicyArn="arn:aws:iam::aws:policy/A") == "AccessDenied"

    auditor = assume(aws, outputs["AuditRole"])
    act_as(aws, auditor, monkeypatch)
    assert cli.main(["key", "show", aws.admin.id]) == 0
    shown = capsys.readouterr()
    assert "administrator" in shown.out
    assert "AccessDenied" not in shown.out + shown.err
    assert code(aws.client("iam", auditor).create_access_key, UserName="admin") == "AccessDenied"


@pytest.mark.parametrize("role", ["watch", "mint", "audit"])
def test_the_canary_accounts_roles_may_do_what_the_service_calls_and_nothing_else(aws: Loopback, role: str) -> None:
    outputs = deploy_canary_account(aws)
    assert rights(aws, outputs[f"{role.capitalize()}Role"]) == {each.action for each in needs.ROLES[role]}


def rights(aws: Loopback, role: str) -> set[str]:
    """Return every action that a role's policies allow; none of them is a pattern."""
    iam, name = aws.client("iam"), role.rpartition("/")[2]
    names = iam.list_role_policies(RoleName=name)["PolicyNames"]
    policies = [iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"] for each in names]
    actions = [action for each in policies for statement in each["Statement"] for action in statement["Action"]]
    assert not [action for action in actions if "*" in action]
    return set(actions)


def test_only_those_who_are_named_may_take_a_role(aws: Loopback) -> None:
    outputs = deploy_canary_account(aws)
    sts = aws.client("sts", aws.add_user("bo", inline={"roles": allow("sts:AssumeRole")}))
    for role in ("WatchRole", "MintRole", "AuditRole", "ForwardRole"):
        assert code(sts.assume_role, RoleArn=outputs[role], RoleSessionName="bo") == "AccessDenied", role


def test_nobody_reads_and_nothing_was_readable_are_alarms(aws: Loopback) -> None:
    topic = f"arn:aws:sns:us-east-1:{aws.account}:alarm"
    deploy_canary_account(aws, AlarmTopic=topic)
    alarms = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert {each["MetricName"] for each in alarms} == {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesVisible",
    }
    assert all(each["AlarmActions"] == [topic] for each in alarms)


def test_the_last_resort_mails_without_firedamp(aws: Loopback) -> None:
    outputs = deploy(aws, "last-resort", Mail="ops@example.com", CanaryUsers="svc-")
    mailbox, arn = make_queue(aws, "mailbox")
    aws.client("sns").subscribe(TopicArn=outputs["Topic"], Protocol="sqs", Endpoint=arn)
    deploy_canary_account(aws)
    canary, stranger = aws.add_user("svc-backup", inline={"one": allow("sts:*")}), aws.add_user("bo")
    federated = aws.client("sts", canary).get_federation_token(Name="fed")["Credentials"]
    aws.client("sts", session_key(federated)).get_caller_identity()
    aws.client("sts", stranger).get_caller_identity()
    for user, key in (("svc-backup", canary), ("bo", stranger)):
        aws.client("iam").update_access_key(UserName=user, AccessKeyId=key.id, Status="Inactive")
    aws.client("cloudtrail").stop_logging(Name="ledger-canary-account")
    mails = [json.loads(each["Message"])["detail"] for each in drain(aws, mailbox)]
    told = [(each["eventName"], (each["requestParameters"] or {}).get("userName")) for each in mails]
    assert told == [
        ("GetFederationToken", None),
        ("GetCallerIdentity", None),
        ("UpdateAccessKey", "svc-backup"),
        ("StopLogging", None),
    ]


def test_a_heartbeat_that_stops_is_an_alarm_and_so_is_one_that_never_began(aws: Loopback) -> None:
    outputs = deploy(aws, "last-resort", Mail="ops@example.com")
    (alarm,) = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["TreatMissingData"]) == (
        "firedamp",
        "Heartbeat",
        "breaching",
    )
    assert alarm["AlarmActions"] == [outputs["Topic"]]
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 15 * 60


def test_an_account_of_canaries_only_needs_no_names(aws: Loopback) -> None:
    outputs = deploy(aws, "last-resort", Mail="ops@example.com")
    mailbox, arn = make_queue(aws, "mailbox")
    aws.client("sns").subscribe(TopicArn=outputs["Topic"], Protocol="sqs", Endpoint=arn)
    start_trail(aws)
    canary = aws.add_user("mail-export-prod-x7q2")
    drain(aws, mailbox)
    aws.client("sts", canary).get_caller_identity()
    assert len(drain(aws, mailbox)) == 1


def test_an_organisations_trail_is_read_from_its_audit_account(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    organization = aws.client("organizations").create_organization(FeatureSet="ALL")["Organization"]["Id"]
    made = aws.client("organizations").create_account(AccountName="bait", Email="bait@example.com")
    member = made["CreateAccountStatus"]["AccountId"]
    aws.add_user(OPERATOR, inline={"roles": allow("sts:AssumeRole")})
    ana = f"arn:aws:iam::{aws.account}:user/{OPERATOR}"
    outputs = deploy(
        aws, "audit-account", Organization=organization, ManagementAccount=aws.account, CanaryAccount=member,
        Operators=ana, Watchers=ana,
    )  # fmt: skip
    canary = aws.add_user("mail-export-prod-x7q2", account=member, inline={"none": DENY_ALL})
    owner = f"arn:aws:iam::{member}:user/mail-export-prod-x7q2"
    cli.main(["canary", "adopt", canary.id, "--arn", owner])
    code(aws.client("s3", canary).get_object, Bucket="nobodys", Key="x")
    aws.trail.flush()
    act_as(aws, assume(aws, outputs["WatchRole"]), monkeypatch)
    status, (seen,) = incidents(capsys, outputs["FilesFeed"])
    assert (status, seen["key"], seen["services"]) == (1, canary.id, ["s3"]), "a data event of another account"
    assert incidents(capsys, outputs["BackfillFeed"])[0] == 0
    elsewhere = {
        "iam:GetAccessKeyLastUsed",
        "iam:ListAccessKeys",
        "events:DescribeRule",
        "events:ListRuleNamesByTarget",
    }
    assert {each.action for each in needs.WATCH} - rights(aws, outputs["WatchRole"]) <= elsewhere
    assert rights(aws, outputs["AuditRole"]) == {each.action for each in needs.AUDIT}


@pytest.mark.parametrize("name", ["canary-account", "audit-account"])
def test_the_trails_bucket_is_locked_versioned_private_and_forgets(name: str) -> None:
    # moto keeps neither lock nor lifecycle of a template: read as written.
    from cfnlint.decode import decode_str

    resources = decode_str(template(name))[0]["Resources"]
    bucket = resources["Files"]["Properties"]
    assert resources["Files"]["DeletionPolicy"] == "Retain"
    assert bucket["VersioningConfiguration"]["Status"] == "Enabled"
    assert bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]["Mode"] == "GOVERNANCE"
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert bucket["LifecycleConfiguration"]["Rules"][0]["Status"] == "Enabled"
    trail = resources["Trail"]["Properties"]
    for switch in ("IsMultiRegionTrail", "EnableLogFileValidation", "IncludeGlobalServiceEvents"):
        assert trail[switch]
    queues = [each["Properties"] for each in resources.values() if each["Type"] == "AWS::SQS::Queue"]
    assert len([each for each in queues if "RedrivePolicy" in each]) * 2 == len(queues)


def test_no_template_gives_a_role_a_bucket_or_a_user_a_name_that_can_be_guessed() -> None:
    for file in (DEPLOY / "cloudformation").glob("*.yaml"):
        for word in (" RoleName:", " BucketName:", " UserName:", " QueueName:"):
            assert word not in file.read_text(), (file.name, word)
