"""What stands in `deploy/` is sound, deploys, and gives the service its rights and no others."""

from __future__ import annotations

import gzip
import json
import os
import plistlib
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from tests.scenes import DENY_ALL, allow, code, drain, make_queue, session_key, start_trail
from tests.test_plant import prepare

from firedamp.service import cli, config, needs, serving
from firedamp.service.arguments import parsed
from firedamp.service.loopback import Loopback, LoopbackKey
from firedamp.storage.errors import UsageFailure
from firedamp.storage.records import AlertKind

DEPLOY = Path(__file__).parent.parent / "deploy"


@pytest.mark.parametrize("role", needs.ROLES)
def test_a_roles_policy_is_what_the_role_calls(role: str) -> None:
    assert (DEPLOY / "policies" / f"{role}.json").read_text() == needs.policy(role)


def test_every_action_of_the_policies_is_explained() -> None:
    assert (DEPLOY / "policies/README.md").read_text().endswith("\n\n" + needs.table().rstrip() + "\n")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # parliament and json-cfg read their data the old way
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:pkg_resources is deprecated:UserWarning")
@pytest.mark.parametrize("role", needs.ROLES)
def test_parliament_finds_nothing_in_a_policy(role: str) -> None:
    import parliament

    found = parliament.analyze_policy_string(needs.policy(role)).findings
    assert [str(each) for each in found] == []


# CloudFormation, deployed into the loopback AWS.

OPERATOR = "ana"
ENDINGS = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError")


@pytest.mark.parametrize("name", ["last-resort", "canary-account", "audit-account", "regions", "places"])
def test_cfn_lint_finds_nothing_in_a_template(name: str) -> None:
    from cfnlint.api import ManualArgs, lint

    # One region: every further one costs as much again, and what is deployed differs in none.
    assert lint(template(name), config=ManualArgs(regions=["us-east-1"])) == []


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


def test_regions_are_watched_by_one_stack_set(aws: Loopback) -> None:
    outputs = deploy_canary_account(aws)
    cloudformation, regions = aws.client("cloudformation"), ["eu-west-1", "us-west-2"]
    given = {"ForwardRole": outputs["ForwardRole"], "CanaryUsers": "svc-"}
    cloudformation.create_stack_set(
        StackSetName="ledger",
        TemplateBody=template("regions"),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
    )
    cloudformation.create_stack_instances(StackSetName="ledger", Accounts=[aws.account], Regions=regions)
    canary = aws.add_user("svc-backup")
    for region in regions:
        aws.client("sts", canary, region=region).get_caller_identity()
    assert [each["region"] for each in drain(aws, queue_url(aws, outputs["RecordsFeed"]))] == regions


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


def with_profiles(aws: Loopback, monkeypatch: pytest.MonkeyPatch, roles: dict[str, str]) -> None:
    """Let this user have a profile for each role, and nothing else: no default, no variables."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    folder, text = Path.home() / ".aws", ""
    folder.mkdir(exist_ok=True)
    for name, role in roles.items():
        key = assume(aws, role)
        assert key.token is not None
        text += f"[{name}]\naws_access_key_id={key.id}\naws_secret_access_key={key.secret.reveal()}\n"
        text += f"aws_session_token={key.token.reveal()}\n"
    (folder / "credentials").write_text(text)
    (folder / "config").write_text("".join(f"[profile {name}]\nregion=us-east-1\n" for name in roles))


SERVICES = {"monitoring": "cloudwatch"}
ACTIONS = {"ListObjects": "ListBucket", "ListObjectsV2": "ListBucket"}


def called_by(aws: Loopback, role: str) -> set[str]:
    """Return what a role's sessions called, as far as a trail tells: `service:Operation`."""
    records = [json.loads(each.text) for each in aws.trail.entries]
    own = [
        each
        for each in records
        if each["userIdentity"].get("sessionContext", {}).get("sessionIssuer", {}).get("arn") == role
    ]
    return {f"{SERVICES.get(s := each['eventSource'].partition('.')[0], s)}:{named(each['eventName'])}" for each in own}


def named(event: str) -> str:
    """Return the action that allows a call: some are recorded under the name of their API, with its date or version."""
    return ACTIONS.get(event, event.partition("2015")[0].removesuffix("Batch"))


FORMS = {"s3": "env", "secretsmanager": "json", "ssm": "aws-profile", "lambda": "env", "ec2": "shell"}


@pytest.mark.slow
def test_canaries_are_planted_checked_drilled_and_retired_in_aws_places_on_exactly_the_rights_of_their_roles(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    places = {kind: prepare(aws, kind) for kind in FORMS}
    outputs = deploy_canary_account(aws)
    ana = f"arn:aws:iam::{aws.account}:user/{OPERATOR}"
    outputs |= deploy(
        aws, "places", Operators=ana, Watchers=ana, Bucket="orders-exports", Objects="config/", Secrets="/orders/",
        Parameters="orders/", Function="worker", Instance=places["ec2"].partition(":")[2],
    )  # fmt: skip
    roles = {"mint": outputs["MintRole"], "watch": outputs["WatchRole"]}
    with_profiles(aws, monkeypatch, roles | {"bait": outputs["PlantRole"]})
    monkeypatch.setenv("CHANNEL", "stdout://")
    file = tmp_path / "firedamp.toml"
    file.write_text(
        f'[aws]\ncanary_profile = "mint"\nwatch_profile = "watch"\n[watch]\nfeeds = ["{outputs["RecordsFeed"]}"]\n'
        '[[channel]]\nname = "out"\nurl = "env:CHANNEL"\n'
    )

    def run(*words: str) -> list[dict[str, Any]]:
        capsys.readouterr()
        status = cli.main([*words, "--config", str(file), "--format", "jsonl"])
        told = capsys.readouterr()
        assert (status, "Denied" in told.out + told.err) == (0, False), told.err + told.out
        return [json.loads(line) for line in told.out.splitlines() if line.startswith("{")]

    minted = run("canary", "mint", "--name", "svc-{task}-{alnum:4}", "-n", "5", "--force")
    names = dict(zip(FORMS, (each["name"] for each in minted), strict=True))
    for kind, form in FORMS.items():
        run("canary", "plant", names[kind], "--at", f"{places[kind]}?region=us-east-1&profile=bait", "--as", form)

    # The service's machine has a profile of the same name that may only look.
    with_profiles(aws, monkeypatch, roles | {"bait": outputs["CheckRole"]})
    assert [each["state"] for each in run("canary", "check")] == ["present"] * 5
    (drilled,) = run("canary", "drill", names["ssm"])
    assert (drilled["path_only"], drilled["over"]) == (False, False), "seen by the watch role"
    (drilled,) = run("canary", "drill", minted[0]["access_key_id"])
    assert drilled["path_only"], "a user of its own for it, made and taken back by the mint role"
    assert not drilled["over"], "its name begins as the rule and the roles know canaries"

    with_profiles(aws, monkeypatch, roles | {"bait": outputs["PlantRole"]})
    for name in names.values():
        run("canary", "retire", name)
    assert aws.client("s3").list_objects_v2(Bucket="orders-exports").get("KeyCount") == 0

    unheard = {"s3:ListBucket"}  # asked by S3 itself, to choose between 403 and 404
    asked = {each.action for each in needs.CHECK} - unheard
    assert called_by(aws, outputs["CheckRole"]) == asked
    assert called_by(aws, outputs["PlantRole"]) == {each.action for each in needs.PLANT} - unheard
    for role in ("check", "plant"):
        assert rights(aws, outputs[f"{role.capitalize()}Role"]) == {each.action for each in needs.ROLES[role]}
    planter, checker = assume(aws, outputs["PlantRole"]), assume(aws, outputs["CheckRole"])
    ours = {"Bucket": "orders-exports", "Key": "config/x"}
    elsewhere = [
        (planter, "s3", "put_object", {"Bucket": "orders-exports", "Key": "data/x"}),
        (planter, "s3", "put_object", {"Bucket": "other", "Key": "config/x"}),
        (planter, "secretsmanager", "get_secret_value", {"SecretId": "prod/database"}),
        (planter, "ssm", "delete_parameter", {"Name": "/prod/x"}),
        (planter, "lambda", "get_function_configuration", {"FunctionName": "payments"}),
        (planter, "ec2", "modify_instance_attribute", {"InstanceId": "i-12345678", "Attribute": "userData"}),
        (planter, "iam", "list_users", {}),
        (checker, "s3", "put_object", ours), (checker, "s3", "delete_object", ours),
        (checker, "ssm", "put_parameter", {"Name": "/orders/y", "Value": "x", "Type": "String"}),
        (checker, "secretsmanager", "delete_secret", {"SecretId": "/orders/prod/aws"}),
    ]  # fmt: skip
    for key, service, call, arguments in elsewhere:
        assert code(getattr(aws.client(service, key), call), **arguments) in ENDINGS, (service, call)


def test_places_that_are_not_named_give_no_rights(aws: Loopback) -> None:
    ana = f"arn:aws:iam::{aws.account}:user/{OPERATOR}"
    outputs = deploy(aws, "places", Operators=ana, Watchers=ana, Secrets="orders/")
    assert rights(aws, outputs["CheckRole"]) == {"secretsmanager:GetSecretValue"}
    assert {each.partition(":")[0] for each in rights(aws, outputs["PlantRole"])} == {"secretsmanager"}


def test_the_nets_hang_on_exactly_the_rights_of_the_watch_role(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    outputs = deploy_canary_account(aws)
    canary = aws.add_user("svc-backup", inline={"none": DENY_ALL})
    cli.main(["canary", "adopt", canary.id, "--arn", f"arn:aws:iam::{aws.account}:user/svc-backup"])
    with_profiles(aws, monkeypatch, {"watch": outputs["WatchRole"]})
    feeds = [outputs["FilesFeed"], outputs["RecordsFeed"], outputs["BackfillFeed"], "lookup://"]
    monkeypatch.setenv("BEAT", "cloudwatch://us-east-1/firedamp/heartbeat")
    file = tmp_path / "firedamp.toml"
    file.write_text(f'[aws]\nwatch_profile = "watch"\n[watch]\nfeeds = {json.dumps(feeds)}\nheartbeat = "env:BEAT"\n')
    aws.client("sts", canary).get_caller_identity()
    aws.trail.flush()
    assert cli.main(["watch", "--once", "--config", str(file)]) == 1
    told = capsys.readouterr()
    assert "Denied" not in told.out + told.err
    aws.client("sts", canary).get_caller_identity()  # so that a message waits whose age is asked
    cli.main(["canary", "nets", "--config", str(file), "--format", "jsonl"])
    told = capsys.readouterr()
    states = {line["check"]: line for line in map(json.loads, told.out.splitlines()) if "check" in line}
    assert "Denied" not in told.out + told.err
    unknown = [line["detail"] for line in states.values() if line["state"] == "unknown"]
    assert sorted(unknown) == ["1 messages; CloudWatch does not say how old", "nobody serves this database"]
    only_for_long_files = {"sqs:ChangeMessageVisibility"}
    assert {each.action for each in needs.WATCH} - called_by(aws, outputs["WatchRole"]) == only_for_long_files


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


def test_every_queue_that_nobody_reads_or_that_gives_up_on_something_is_an_alarm(aws: Loopback) -> None:
    topic = f"arn:aws:sns:us-east-1:{aws.account}:alarm"
    deploy_canary_account(aws, AlarmTopic=topic)
    alarms = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert all(each["AlarmActions"] == [topic] for each in alarms)
    told = {(each["MetricName"], each["Dimensions"][0]["Value"]) for each in alarms}
    sqs = aws.client("sqs")
    attributes = [
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        for url in sqs.list_queues()["QueueUrls"]
    ]
    assert len(attributes) == 4
    assert told == {
        (
            "ApproximateAgeOfOldestMessage" if "RedrivePolicy" in each else "ApproximateNumberOfMessagesVisible",
            each["QueueArn"].rpartition(":")[2],
        )
        for each in attributes
    }


@pytest.mark.parametrize("name", ["canary-account", "audit-account"])
def test_every_queue_of_a_template_has_the_alarm_of_its_kind(name: str) -> None:
    from cfnlint.decode import decode_str

    resources = decode_str(template(name))[0]["Resources"]
    watched = {
        each["Properties"]["Dimensions"][0]["Value"]["Fn::GetAtt"][0]: each["Properties"]["MetricName"]
        for each in resources.values()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert watched == {
        key: "ApproximateAgeOfOldestMessage"
        if "RedrivePolicy" in each["Properties"]
        else "ApproximateNumberOfMessagesVisible"
        for key, each in resources.items()
        if each["Type"] == "AWS::SQS::Queue"
    }


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
        "heartbeat",
        "breaching",
    )
    assert alarm["AlarmActions"] == [outputs["Topic"]]
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 15 * 60


def test_the_watch_role_may_send_the_heartbeat_that_the_alarm_listens_for(
    aws: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outputs = deploy_canary_account(aws)
    deploy(aws, "last-resort", Mail="ops@example.com")
    (alarm,) = aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    watcher = assume(aws, outputs["WatchRole"])
    act_as(aws, watcher, monkeypatch)
    monkeypatch.setenv("BEAT", f"cloudwatch://us-east-1/{alarm['Namespace']}/{alarm['MetricName']}")
    file = tmp_path / "firedamp.toml"
    file.write_text(f'[watch]\nfeeds = ["{outputs["RecordsFeed"]}"]\nheartbeat = "env:BEAT"\n')
    assert cli.main(["watch", "--once", "--config", str(file)]) == 0
    (metric,) = aws.client("cloudwatch").list_metrics(Namespace=alarm["Namespace"])["Metrics"]
    assert (metric["Namespace"], metric["MetricName"]) == (alarm["Namespace"], alarm["MetricName"])
    put = aws.client("cloudwatch", watcher).put_metric_data
    assert code(put, Namespace="other", MetricData=[{"MetricName": "x", "Value": 1}]) in ENDINGS


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
    files = list((DEPLOY / "cloudformation").glob("*.yaml"))
    assert len(files) >= 5
    for file in files:
        for word in (" RoleName:", " BucketName:", " UserName:", " QueueName:"):
            assert word not in file.read_text(), (file.name, word)


# Terraform, which deploys the same templates.

PLUGINS = os.environ.get("FIREDAMP_TERRAFORM_PLUGINS")  # read before the tests' own surroundings are made
MODULES = {"": ["last-resort", "canary-account"], "regions": ["regions"], "places": ["places"]}


@pytest.mark.parametrize("module", MODULES)
def test_a_terraform_module_gives_templates_parameters_that_they_have_and_all_that_they_need(module: str) -> None:
    from cfnlint.decode import decode_str

    text = (DEPLOY / "terraform" / module / "main.tf").read_text()
    stacks = re.findall(r"cloudformation/([\w-]+)\.yaml\".*?parameters = \{\n(.*?)\n  \}", text, re.DOTALL)
    assert [name for name, _ in stacks] == MODULES[module]
    for name, given in stacks:
        parameters = decode_str(template(name))[0]["Parameters"]
        named = set(re.findall(r"^ +(\w+) +=", given, re.MULTILINE))
        needed = {key for key, each in parameters.items() if "Default" not in each}
        assert needed <= named <= set(parameters), name


@pytest.mark.slow
@pytest.mark.skipif(
    "FIREDAMP_TERRAFORM_PLUGINS" not in os.environ, reason="no folder of terraform's providers is named"
)
@pytest.mark.parametrize("module", MODULES)
def test_terraform_finds_a_module_valid(module: str, tmp_path: Path) -> None:
    for folder in ("terraform", "cloudformation"):
        shutil.copytree(DEPLOY / folder, tmp_path / folder)

    def run(*words: str) -> str:
        done = subprocess.run(
            ["terraform", *words], cwd=tmp_path / "terraform" / module, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("fmt", "-check")
    run("init", "-backend=false", "-input=false", f"-plugin-dir={PLUGINS}")
    assert json.loads(run("validate", "-json"))["diagnostics"] == []


# The runbook and the example.


def test_every_command_of_the_runbook_and_the_readmes_exists() -> None:
    checked = 0
    for file in (
        DEPLOY / "RUNBOOK.md",
        DEPLOY / "README.md",
        DEPLOY / "policies/README.md",
        DEPLOY.parent / "README.md",
    ):
        for words in commands(file.read_text()):
            try:
                parsed(words)
            except UsageFailure as failure:
                pytest.fail(f"{file.name}: firedamp {shlex.join(words)}: {failure}")
            checked += 1
    assert checked > 30


def commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each firedamp command, on an indented line of its own or in backticks."""
    for line in re.findall(r"^ {4,}(?:\$ )?firedamp (.+)$", text, re.MULTILINE):
        yield [word for word in shlex.split(line, comments=True) if word != "…"]
    for line in re.findall(r"`firedamp ([a-z][^`…]*)`", text):
        words = shlex.split(line)
        # A command that is only named needs what it cannot do without.
        yield words + MORE.get(" ".join(words), [])


MORE = {"hook install": ["pre-commit"], "canary": ["list"], "key": ["show", "KEYID"], "usage": ["KEYID"]}


def test_each_kind_of_alarm_has_a_section_that_says_what_to_do() -> None:
    text = (DEPLOY / "RUNBOOK.md").read_text()
    for kind in AlertKind:
        section = re.search(rf"^### {kind.value}\n(.*?)^###? ", text, re.MULTILINE | re.DOTALL)
        assert section is not None, kind
        assert len(section[1].split()) > 10, kind


def test_the_costs_add_up() -> None:
    rows = re.findall(r"^\|.*\| (?:\*\*)?(\d+\.\d\d)(?:\*\*)? \|$", (DEPLOY / "RUNBOOK.md").read_text(), re.MULTILINE)
    *each, total = (round(100 * float(cell)) for cell in rows)
    assert sum(each) == total


def test_the_example_configuration_is_what_the_command_prints() -> None:
    assert (DEPLOY / "firedamp.toml").read_text() == config.example()


def test_configurations_in_the_runbook_and_the_manifest_are_sound(tmp_path: Path) -> None:
    blocks = re.findall(r"(?:^ {8}.*\n|^\n)+", (DEPLOY / "RUNBOOK.md").read_text(), re.MULTILINE)
    found = [textwrap.dedent(block) for block in blocks if re.search(r"^ {8}\[\[(job|forge)\]\]", block, re.MULTILINE)]
    found.append(manifests()["ConfigMap"]["data"]["firedamp.toml"])
    assert len(found) == 3
    for number, text in enumerate(found):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        config.load(file)


# Where it runs. Nothing is built here: what can be read is read.


def manifests() -> dict[str, Any]:
    text = (DEPLOY / "kubernetes/firedamp.yaml").read_text()
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


def test_the_image_is_pinned_runs_as_nobody_and_is_asked_for_its_health() -> None:
    text = (DEPLOY / "container/Dockerfile").read_text()
    steps = re.findall(r"^([A-Z]+) (.*)", text, re.MULTILINE)
    bases = [rest.split()[0] for word, rest in steps if word == "FROM"]
    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base) for base in bases)
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "/healthz" in last.partition("HEALTHCHECK")[2]
    assert "ADD " not in text
    assert "sudo" not in text
    assert "--no-install-recommends" in text
    assert "rm -rf /var/lib/apt/lists" in text
    (entry,), (arguments,) = ([json.loads(r) for w, r in steps if w == word] for word in ("ENTRYPOINT", "CMD"))
    assert entry == ["firedamp"]
    assert parsed(arguments).command == "serve"


@pytest.mark.parametrize(("answer", "status"), [(200, 0), (503, 1)])
def test_the_images_health_check_asks_the_service_and_no_proxy(answer: int, status: int) -> None:
    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep silent."""

    text = (DEPLOY / "container/Dockerfile").read_text().replace("\\\n", " ")
    _, *arguments = json.loads(re.findall(r"HEALTHCHECK.*?CMD (\[.*\])$", text, re.MULTILINE)[0])
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.handle_request, daemon=True).start()
        asked = [each.replace("9187", str(server.server_port)) for each in arguments]
        environ = os.environ | {"http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run([sys.executable, *asked], env=environ, capture_output=True, check=False)
    assert done.returncode == status, done.stderr


def test_the_image_gets_every_package_and_nothing_that_lies_about() -> None:
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    copied = set(re.findall(r"^COPY (\w+) \w+$", (DEPLOY / "container/Dockerfile").read_text(), re.MULTILINE))
    let_in = {
        line[1:] for line in (DEPLOY / "container/Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"
    }
    files = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    files |= {"deploy/container/requirements.txt", "deploy/container/build.txt"}
    assert copied == packages
    assert let_in == packages | files


def test_the_compose_service_can_write_to_its_state_only() -> None:
    service = yaml.safe_load((DEPLOY / "container/compose.yaml").read_text())["services"]["firedamp"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    writable = [each for each in service["volumes"] if isinstance(each, str) or not each["read_only"]]
    assert writable == ["state:/var/lib/firedamp"]
    given = [each["bind"] for each in service["volumes"] if isinstance(each, dict)]
    assert given == [{"create_host_path": False}] * 2, "no folder in the place of a file that is not there"
    assert service["env_file"][0]["required"] is False
    assert (DEPLOY / "container" / service["build"]["context"] / service["build"]["dockerfile"]).exists()


def test_the_pod_has_no_rights_it_does_not_need_and_is_probed() -> None:
    found = manifests()
    deployment = found["Deployment"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate"), "one instance a database"
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert ":" in container["image"]
    assert not container["image"].endswith(":latest")
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == deployment["selector"]["matchLabels"]
    assert parsed(container["args"]).command == "serve"


UNITS = ["firedamp.service", "firedamp-scan.service", "firedamp-scan.timer"]


def unit(name: str) -> dict[str, list[str]]:
    """Return a unit's settings; systemd allows a name more than once."""
    settings: dict[str, list[str]] = {}
    for line in (DEPLOY / "systemd" / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings.setdefault(key, []).append(value)
    return settings


def test_the_service_unit_is_hardened_watched_and_started_again() -> None:
    settings = unit("firedamp.service")
    assert settings["Type"] == ["notify"]
    assert int(settings["WatchdogSec"][0]) > 2 * serving.BEAT
    assert settings["Restart"] == ["always"]
    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "RestrictSUIDSGID", "DynamicUser", "ProtectHome"):
        assert settings[name] == ["yes"], name
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["CapabilityBoundingSet"] == [""]
    assert settings["SystemCallFilter"] == ["@system-service"]


def test_a_laptops_timer_catches_up_and_does_not_mind_findings() -> None:
    assert unit("firedamp-scan.timer")["Persistent"] == ["true"]
    scan = unit("firedamp-scan.service")
    assert scan["SuccessExitStatus"] == ["1"]
    # An account that was made a moment ago has no folder for the output.
    assert scan["ExecStartPre"] == ["/bin/mkdir -p %h/.local/state"]
    assert "--output %h/.local/state/" in scan["ExecStart"][0]


def test_the_runbook_brings_every_file_that_the_service_unit_names() -> None:
    text = (DEPLOY / "systemd/firedamp.service").read_text()
    runbook = (DEPLOY / "RUNBOOK.md").read_text()
    names = set(re.findall(r"/etc/firedamp/([\w.-]+)", text))
    assert names >= {"firedamp.toml", "secrets.env"}
    for name in names:
        assert re.search(rf"^ {{8}}install .*{re.escape(name)}", runbook, re.MULTILINE), name
    # systemd reads the secrets as root; the service, a user of its own, reads the others. A copy of what is its owner's
    # alone, as `aws configure` makes ~/.aws/config, stays so.
    modes = re.findall(r"^ {8}install -m (\d+) .*/etc/firedamp/([\w.-]*)$", runbook, re.MULTILINE)
    assert modes == [("644", ""), ("644", "aws-config"), ("600", "secrets.env")]


def test_the_units_start_commands_that_exist() -> None:
    for name in UNITS[:2]:
        (line,) = unit(name)["ExecStart"]
        program, *words = shlex.split(line)
        assert program.endswith("/bin/firedamp")
        parsed(words)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for name in UNITS:
        # The program is not installed on this machine, and a unit whose program is missing is refused.
        text = re.sub(
            r"^ExecStart=\S+", "ExecStart=/bin/true", (DEPLOY / "systemd" / name).read_text(), flags=re.MULTILINE
        )
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_mac_agent_runs_a_scan_that_exists() -> None:
    agent = plistlib.loads((DEPLOY / "launchd/com.firedamp.scan.plist").read_bytes())
    assert agent["ProcessType"] == "Background"
    assert agent["Umask"] == 0o077
    shell, flag, line = agent["ProgramArguments"]
    assert (shell, flag) == ("/bin/sh", "-c")
    words = shlex.split(line)
    assert words[:2] == ["exec", "$HOME/.local/bin/firedamp"]
    assert parsed(words[2:]).nice
