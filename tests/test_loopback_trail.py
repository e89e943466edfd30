"""The loopback AWS's CloudTrail: what is recorded, what it says, and every way it travels to a reader."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote_plus

import pytest
from botocore.exceptions import ClientError
from tests.builders import make_key_id, make_secret
from tests.scenes import DENY_ALL, allow, code, drain, make_queue, make_role, session_key, start_trail

from firedamp.service.loopback import Loopback, LoopbackKey
from firedamp.storage.secret import Secret

LOG_NAME = re.compile(
    r"(\w+/)?AWSLogs/(o-\w+/)?(\d{12})/CloudTrail/([\w-]+)/\d{4}/\d\d/\d\d/\3_CloudTrail_\4_\d{8}T\d{4}Z_\w{16}\.json\.gz"
)


@pytest.fixture
def canary(aws: Loopback) -> LoopbackKey:
    return aws.add_user("svc-backup", inline={"p": DENY_ALL})


def read_file(aws: Loopback, key: str, bucket: str = "logs") -> dict[str, Any]:
    stored = aws.client("s3").get_object(Bucket=bucket, Key=unquote_plus(key))
    assert (stored["ContentType"], stored["ContentEncoding"]) == ("application/json", "gzip")
    content: dict[str, Any] = json.loads(gzip.decompress(stored["Body"].read()))
    return content


def records(aws: Loopback, key: LoopbackKey | None = None) -> list[dict[str, Any]]:
    """Return what has been recorded (of one key), oldest first."""
    every = [json.loads(entry.text) for entry in aws.trail.entries]
    return [record for record in every if key is None or record["userIdentity"].get("accessKeyId") == key.id]


# What is recorded.


def test_a_call_is_recorded_as_cloudtrail_words_it(aws: Loopback, canary: LoopbackKey) -> None:
    aws.clock = lambda: datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    aws.client("sts", canary, "eu-west-1", source_ip="203.0.113.9").get_caller_identity()
    (record,) = records(aws, canary)
    assert record.pop("userIdentity") == {
        "type": "IAMUser",
        "principalId": aws.client("iam").get_user(UserName="svc-backup")["User"]["UserId"],
        "arn": f"arn:aws:iam::{aws.account}:user/svc-backup",
        "accountId": aws.account,
        "accessKeyId": canary.id,
        "userName": "svc-backup",
    }
    for volatile in ("requestID", "eventID", "userAgent"):
        assert record.pop(volatile)
    assert record == {
        "eventVersion": "1.11",
        "eventTime": "2026-03-04T05:06:07Z",
        "eventSource": "sts.amazonaws.com",
        "eventName": "GetCallerIdentity",
        "awsRegion": "eu-west-1",
        "sourceIPAddress": "203.0.113.9",
        "requestParameters": None,
        "responseElements": None,
        "readOnly": True,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": aws.account,
        "eventCategory": "Management",
        "tlsDetails": {
            "tlsVersion": "TLSv1.3",
            "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": "sts.eu-west-1.amazonaws.com",
        },
    }


def test_a_denied_call_is_recorded_with_its_error(aws: Loopback, canary: LoopbackKey) -> None:
    for service, call in (("iam", "list_users"), ("ec2", "describe_instances"), ("dynamodb", "list_tables")):
        code(getattr(aws.client(service, canary, "eu-west-1"), call))
    said = {record["eventName"]: record for record in records(aws, canary)}
    assert said["ListUsers"]["errorCode"] == "AccessDenied"
    assert "with an explicit deny in an identity-based policy" in said["ListUsers"]["errorMessage"]
    assert said["ListUsers"]["awsRegion"] == "us-east-1", "IAM is global"
    assert said["DescribeInstances"]["errorCode"] == "Client.UnauthorizedOperation"
    assert said["DescribeInstances"]["awsRegion"] == "eu-west-1"
    assert said["ListTables"]["errorCode"] == "AccessDeniedException"


def test_failed_authentication_is_recorded_nowhere(aws: Loopback, canary: LoopbackKey, rng: random.Random) -> None:
    wrong = Secret(make_secret(rng))
    code(aws.client("sts", LoopbackKey(canary.id, wrong)).get_caller_identity)
    code(aws.client("sts", LoopbackKey(make_key_id(rng), wrong)).get_caller_identity)
    aws.client("iam").update_access_key(UserName="svc-backup", AccessKeyId=canary.id, Status="Inactive")
    code(aws.client("sts", canary).get_caller_identity)
    assert [record["eventName"] for record in records(aws)] == ["UpdateAccessKey"]


def test_an_error_of_the_service_itself_is_recorded(aws: Loopback) -> None:
    code(aws.client("iam").get_user, UserName="nobody")
    code(aws.client("s3").get_bucket_location, Bucket="no-such-bucket")
    assert [record["errorCode"] for record in records(aws)] == ["NoSuchEntity", "NoSuchBucket"]
    assert records(aws)[1]["requestParameters"]["bucketName"] == "no-such-bucket"


def test_a_write_tells_what_was_asked_and_made_but_no_secret(aws: Loopback) -> None:
    iam = aws.client("iam")
    iam.create_user(UserName="eve", Path="/x/", Tags=[{"Key": "team", "Value": "ops"}])
    made = iam.create_access_key(UserName="eve")["AccessKey"]
    user, key = records(aws)
    assert user["requestParameters"] == {"userName": "eve", "path": "/x/", "tags": [{"key": "team", "value": "ops"}]}
    assert user["responseElements"]["user"]["arn"].endswith(":user/x/eve")
    assert key["responseElements"]["accessKey"]["accessKeyId"] == made["AccessKeyId"]
    assert key["readOnly"] is False
    assert made["SecretAccessKey"] not in json.dumps(records(aws))
    aws.client("secretsmanager").create_secret(Name="s", SecretString="hunter2")
    assert records(aws)[-1]["requestParameters"]["secretString"] == "HIDDEN_DUE_TO_SECURITY_REASONS"
    assert "hunter2" not in json.dumps(records(aws))


def test_sessions_are_recorded_with_their_issuer(aws: Loopback) -> None:
    user = aws.add_user("u", inline={"p": allow("*")})
    sts = aws.client("sts", user)
    minted = sts.get_session_token()["Credentials"]
    federated = sts.get_federation_token(Name="bob", Policy=allow("*"))["Credentials"]
    role = make_role(aws, "app", {"AWS": f"arn:aws:iam::{aws.account}:root"}, rights=allow("*"))
    assumed = sts.assume_role(RoleArn=role, RoleSessionName="s1")["Credentials"]
    for credentials in (minted, federated, assumed):
        aws.client("sts", session_key(credentials)).get_caller_identity()
    said = {record["eventName"]: record for record in records(aws, user)}
    for name, credentials in (("GetSessionToken", minted), ("GetFederationToken", federated), ("AssumeRole", assumed)):
        shown = said[name]["responseElements"]["credentials"]
        assert shown["accessKeyId"] == credentials["AccessKeyId"]
        assert "secretAccessKey" not in shown
    assert (said["GetSessionToken"]["readOnly"], said["AssumeRole"]["readOnly"]) == (False, True)
    of_user, of_federated, of_role = (record["userIdentity"] for record in records(aws)[-3:])
    assert (of_user["type"], of_user["userName"]) == ("IAMUser", "u")
    assert of_user["sessionContext"]["attributes"]["mfaAuthenticated"] == "false"
    assert of_federated["type"] == "FederatedUser"
    assert of_federated["sessionContext"]["sessionIssuer"]["arn"].endswith(":user/u")
    assert of_role["type"] == "AssumedRole"
    assert of_role["sessionContext"]["sessionIssuer"]["userName"] == "app"
    assert of_role["principalId"].endswith(":s1")


def test_root_is_recorded_as_root(aws: Loopback) -> None:
    root = aws.add_root_key()
    aws.client("iam", root).list_users()
    (record,) = records(aws, root)
    assert record["userIdentity"]["type"] == "Root"
    assert record["userIdentity"]["principalId"] == aws.account


def test_a_role_of_another_account_leaves_a_record_in_both(aws: Loopback) -> None:
    visitor = aws.add_account("210987654321")
    role = make_role(aws, "audit", {"AWS": "210987654321"})
    aws.client("sts", visitor).assume_role(RoleArn=role, RoleSessionName="aa")
    theirs, ours = sorted(records(aws)[-2:], key=lambda record: record["recipientAccountId"], reverse=True)
    assert (theirs["recipientAccountId"], ours["recipientAccountId"]) == ("210987654321", aws.account)
    assert theirs["sharedEventID"] == ours["sharedEventID"]
    assert theirs["eventID"] != ours["eventID"]
    assert theirs["userIdentity"]["accessKeyId"] == visitor.id
    assert ours["userIdentity"]["type"] == "AWSAccount"
    assert "accessKeyId" not in ours["userIdentity"]


# Looking up.


def looked_up(aws: Loopback, region: str = "us-east-1", **options: Any) -> list[dict[str, Any]]:
    pages = aws.client("cloudtrail", region=region).get_paginator("lookup_events").paginate(**options)
    return [event for page in pages for event in page["Events"]]


def by(key: str, value: str) -> list[dict[str, str]]:
    return [{"AttributeKey": key, "AttributeValue": value}]


def test_events_are_looked_up_by_one_attribute_in_one_region(aws: Loopback, canary: LoopbackKey) -> None:
    aws.client("sts", canary).get_caller_identity()
    code(aws.client("iam", canary, "eu-west-1").create_user, UserName="x")
    aws.client("sts", canary, "eu-west-1").get_caller_identity()
    names = [event["EventName"] for event in looked_up(aws, LookupAttributes=by("AccessKeyId", canary.id))]
    assert names == ["CreateUser", "GetCallerIdentity"], "newest first, IAM in us-east-1"
    (event,) = looked_up(aws, "eu-west-1", LookupAttributes=by("Username", "svc-backup"))
    assert json.loads(event["CloudTrailEvent"])["eventName"] == "GetCallerIdentity"
    assert (event["ReadOnly"], event["AccessKeyId"]) == ("true", canary.id)
    assert len(looked_up(aws, LookupAttributes=by("EventName", "CreateUser"))) == 1
    assert len(looked_up(aws, LookupAttributes=by("EventSource", "iam.amazonaws.com"))) == 1
    assert len(looked_up(aws, LookupAttributes=by("EventId", event["EventId"]))) == 0
    assert looked_up(aws, LookupAttributes=by("ReadOnly", "false"))[0]["EventName"] == "CreateUser"


def test_lookups_page_and_keep_to_their_times(aws: Loopback, canary: LoopbackKey) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    sts = aws.client("sts", canary)
    for minute in range(7):
        aws.clock = lambda minute=minute: start + timedelta(minutes=minute)
        sts.get_caller_identity()
    found = looked_up(aws, LookupAttributes=by("AccessKeyId", canary.id), PaginationConfig={"PageSize": 3})
    assert len(found) == len({event["EventId"] for event in found}) == 7
    window = {"StartTime": start + timedelta(minutes=2), "EndTime": start + timedelta(minutes=4)}
    assert len(looked_up(aws, LookupAttributes=by("AccessKeyId", canary.id), **window)) == 3
    aws.clock = lambda: start + timedelta(days=91)
    assert looked_up(aws, LookupAttributes=by("AccessKeyId", canary.id)) == []


def test_lookups_that_aws_refuses_are_refused(aws: Loopback) -> None:
    cloudtrail = aws.client("cloudtrail")
    two = by("ReadOnly", "true") + by("EventName", "x")
    assert code(cloudtrail.lookup_events, LookupAttributes=two) == "InvalidLookupAttributesException"
    assert code(cloudtrail.lookup_events, MaxResults=50) == "OK"
    cloudtrail.meta.events.register("before-call", ask_for_too_many)
    assert code(cloudtrail.lookup_events) == "InvalidMaxResultsException"


def ask_for_too_many(params: dict[str, Any], **_: object) -> None:
    params["body"] = b'{"MaxResults": 51}'


def test_lookups_can_be_limited_as_aws_limits_them(aws: Loopback) -> None:
    aws.lookup_rate = 2
    try:
        aws.reset()
        now = datetime.now(UTC)
        aws.wall = lambda: now
        cloudtrail = aws.client("cloudtrail")
        assert [code(cloudtrail.lookup_events) for _ in range(3)] == ["OK", "OK", "ThrottlingException"]
        assert code(aws.client("cloudtrail", region="eu-west-1").lookup_events) == "OK"
        aws.wall = lambda: now + timedelta(seconds=2)
        assert code(cloudtrail.lookup_events) == "OK"
    finally:
        aws.lookup_rate = None


def test_data_events_are_in_no_lookup(aws: Loopback) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="photos")
    s3.put_object(Bucket="photos", Key="k", Body=b"1")
    aws.client("sns").publish(TopicArn=aws.client("sns").create_topic(Name="t")["TopicArn"], Message="m")
    names = {event["EventName"] for event in looked_up(aws)}
    assert "CreateBucket" in names
    assert names.isdisjoint({"PutObject", "Publish"})
    recorded = {record["eventName"]: record for record in records(aws)}
    assert recorded["PutObject"]["eventCategory"] == "Data"
    assert recorded["PutObject"]["requestParameters"]["key"] == "k"
    assert recorded["PutObject"]["userAgent"].startswith("[")


# Files.


def test_files_stand_where_aws_puts_them_and_hold_the_records(aws: Loopback, canary: LoopbackKey) -> None:
    start_trail(aws, S3KeyPrefix="pre")
    aws.client("sts", canary, "eu-west-1").get_caller_identity()
    keys = aws.trail.flush()
    assert all(LOG_NAME.fullmatch(key) for key in keys), keys
    (key,) = [key for key in keys if "eu-west-1" in key]
    (record,) = read_file(aws, key)["Records"]
    assert record == records(aws, canary)[0]
    aws.client("sts", canary, "eu-west-1").get_caller_identity()
    assert len(aws.trail.flush()) == 1, "what was written is not written again"


def test_only_a_logging_trail_of_the_region_gets_files(aws: Loopback, canary: LoopbackKey) -> None:
    aws.client("sts", canary).get_caller_identity()
    cloudtrail = start_trail(aws, IsMultiRegionTrail=False)
    aws.client("sts", canary, "eu-west-1").get_caller_identity()
    cloudtrail.stop_logging(Name="main")
    aws.client("sts", canary).get_caller_identity()
    (key,) = aws.trail.flush()
    names = [record["eventName"] for record in read_file(aws, key)["Records"]]
    assert names == ["StartLogging", "StopLogging"], "the calls themselves are in the log, nothing before or after"


def test_selectors_choose(aws: Loopback, canary: LoopbackKey) -> None:
    cloudtrail = start_trail(aws)
    (default,) = cloudtrail.get_event_selectors(TrailName="main")["EventSelectors"]
    assert default["ReadWriteType"] == "All"
    s3 = aws.client("s3")

    def logged(**selectors: Any) -> set[str]:
        cloudtrail.put_event_selectors(TrailName="main", **selectors)
        aws.trail.flush()
        aws.client("sts", canary).get_caller_identity()
        code(aws.client("iam", canary).create_user, UserName="x")
        s3.put_object(Bucket="logs", Key="k", Body=b"1")
        return {
            f"{record['eventName']}"
            for key in aws.trail.flush()
            for record in read_file(aws, key)["Records"]
            if record["eventName"] in ("GetCallerIdentity", "CreateUser", "PutObject")
        }

    objects = [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}]
    assert logged(EventSelectors=[{"ReadWriteType": "WriteOnly"}]) == {"CreateUser"}
    assert logged(EventSelectors=[{"ReadWriteType": "ReadOnly"}]) == {"GetCallerIdentity"}
    assert logged(EventSelectors=[{"IncludeManagementEvents": False, "DataResources": objects}]) == {"PutObject"}
    excluded = {"ExcludeManagementEventSources": ["sts.amazonaws.com"], "DataResources": objects}
    assert logged(EventSelectors=[excluded]) == {"CreateUser", "PutObject"}

    def advanced(*fields: dict[str, Any]) -> set[str]:
        return logged(AdvancedEventSelectors=[{"Name": "a", "FieldSelectors": list(fields)}])

    management = {"Field": "eventCategory", "Equals": ["Management"]}
    assert advanced(management)
    assert cloudtrail.get_event_selectors(TrailName="main")["AdvancedEventSelectors"][0]["Name"] == "a"
    assert advanced(management) == {"GetCallerIdentity", "CreateUser"}
    assert advanced(management, {"Field": "eventName", "NotStartsWith": ["Get"]}) == {"CreateUser"}
    assert advanced(management, {"Field": "eventSource", "NotEquals": ["iam.amazonaws.com"]}) == {"GetCallerIdentity"}
    data = {"Field": "eventCategory", "Equals": ["Data"]}
    assert advanced(data, {"Field": "resources.type", "Equals": ["AWS::S3::Object"]}) == {"PutObject"}
    assert advanced(data, {"Field": "resources.type", "Equals": ["AWS::SQS::Queue"]}) == set()


def test_duplicates_and_disorder_can_be_asked_for(aws: Loopback, canary: LoopbackKey, rng: random.Random) -> None:
    start_trail(aws)
    for _ in range(20):
        aws.client("sts", canary, "eu-west-1").get_caller_identity()
    twins = [key for key in aws.trail.flush(duplicate=True, shuffle=rng) if "eu-west-1" in key]
    assert len(twins) == len(set(twins)) == 2
    first, second = (read_file(aws, key)["Records"] for key in twins)
    assert first == second
    made = [record["eventID"] for record in records(aws, canary)]
    assert sorted(made) == sorted(record["eventID"] for record in first)
    assert made != [record["eventID"] for record in first]


def test_the_status_tells_the_truth_about_delivery(aws: Loopback) -> None:
    cloudtrail = start_trail(aws)
    assert cloudtrail.get_trail_status(Name="main")["IsLogging"]
    assert "LatestDeliveryTime" not in cloudtrail.get_trail_status(Name="main")
    at = datetime(2026, 5, 5, tzinfo=UTC)
    aws.clock = lambda: at
    aws.trail.flush()
    assert cloudtrail.get_trail_status(Name="main")["LatestDeliveryTime"] == at
    aws.trail.flush()
    s3 = aws.client("s3")
    for stored in s3.list_objects_v2(Bucket="logs")["Contents"]:
        s3.delete_object(Bucket="logs", Key=stored["Key"])
    s3.delete_bucket(Bucket="logs")
    assert aws.trail.flush() == ()
    assert cloudtrail.get_trail_status(Name="main")["LatestDeliveryError"] == "NoSuchBucket"
    cloudtrail.stop_logging(Name="main")
    assert not cloudtrail.get_trail_status(Name="main")["IsLogging"]
    assert code(cloudtrail.get_trail_status, Name="none") == "TrailNotFoundException"


def test_digest_files_name_the_hours_log_files(aws: Loopback, canary: LoopbackKey) -> None:
    start_trail(aws, EnableLogFileValidation=True)
    aws.client("sts", canary, "eu-west-1").get_caller_identity()
    logs = aws.trail.flush()
    digests = aws.trail.digest()
    assert len(digests) == 2
    assert all("/CloudTrail-Digest/" in key for key in digests)
    named = [file["s3Object"] for key in digests for file in read_file(aws, key)["logFiles"]]
    assert sorted(named) == sorted(logs)
    cloudtrail = aws.client("cloudtrail")
    cloudtrail.create_trail(Name="unvalidated", S3BucketName="logs")
    cloudtrail.start_logging(Name="unvalidated")
    (quiet,) = aws.trail.digest()
    assert read_file(aws, quiet)["logFiles"] == [], "a quiet hour has a digest too"
    assert aws.client("cloudtrail").get_trail_status(Name="main")["LatestDigestDeliveryTime"]


def test_a_record_of_any_kind_can_be_put_in(aws: Loopback) -> None:
    start_trail(aws)
    aws.trail.flush()
    aws.trail.add(
        {
            "eventID": "c0ffee00-0000-4000-8000-000000000000",
            "eventTime": "2026-01-01T00:00:00Z",
            "eventName": "ConsoleLogin",
            "eventType": "AwsConsoleSignIn",
            "awsRegion": "us-east-1",
            "recipientAccountId": aws.account,
        }
    )
    (key,) = aws.trail.flush()
    assert read_file(aws, key)["Records"][0]["eventName"] == "ConsoleLogin"


# Announcements.


def announced(aws: Loopback, how: str) -> Callable[[], list[str]]:
    """Set up one way to hear of files; return a function that reads the keys heard of since."""
    url, queue = make_queue(aws, "q")
    s3, sns, events = aws.client("s3"), aws.client("sns"), aws.client("events")
    topic = sns.create_topic(Name="t")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    created = {"Events": ["s3:ObjectCreated:*"]}
    notify: dict[str, Any] = {}
    match how:
        case "s3":
            notify = {"QueueConfigurations": [{"QueueArn": queue, **created}]}
        case "s3 by sns":
            notify = {"TopicConfigurations": [{"TopicArn": topic, **created}]}
        case "s3 by eventbridge":
            notify = {"EventBridgeConfiguration": {}}
            events.put_rule(Name="r", EventPattern='{"detail-type": ["Object Created"]}')
            events.put_targets(Rule="r", Targets=[{"Id": "1", "Arn": queue}])
    start_trail(aws, **({"SnsTopicName": "t"} if how == "cloudtrail by sns" else {}))
    if notify:
        s3.put_bucket_notification_configuration(Bucket="logs", NotificationConfiguration=notify)

    def heard() -> list[str]:
        keys: list[str] = []
        for body in drain(aws, url):
            inner = json.loads(body["Message"]) if "Message" in body else body
            keys += [record["s3"]["object"]["key"] for record in inner.get("Records", [])]
            keys += inner.get("s3ObjectKey", [])
            keys += [inner["detail"]["object"]["key"]] if "detail" in inner else []
        return keys

    return heard


@pytest.mark.parametrize("how", ["s3", "s3 by sns", "s3 by eventbridge", "cloudtrail by sns"])
def test_a_file_is_announced(aws: Loopback, canary: LoopbackKey, how: str) -> None:
    heard = announced(aws, how)
    aws.trail.flush()
    heard()
    aws.client("sts", canary, "eu-west-1").get_caller_identity()
    written = aws.trail.flush()
    assert sorted(unquote_plus(key) for key in heard()) == sorted(written)


def test_eventbridge_hides_reads_from_ordinary_rules(aws: Loopback, canary: LoopbackKey) -> None:
    events = aws.client("events")
    pattern = json.dumps(
        {"detail-type": ["AWS API Call via CloudTrail"], "detail": {"userIdentity": {"userName": [{"prefix": "svc-"}]}}}
    )
    urls = {}
    for state in ("ENABLED", "DISABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"):
        urls[state], queue = make_queue(aws, state)
        events.put_rule(Name=state, EventPattern=pattern, State=state)
        events.put_targets(Rule=state, Targets=[{"Id": "1", "Arn": queue}])
    sts = aws.client("sts", canary)
    sts.get_caller_identity()
    assert all(drain(aws, url) == [] for url in urls.values()), "without a trail EventBridge hears nothing"
    start_trail(aws)
    sts.get_caller_identity()
    sts.get_session_token()
    code(aws.client("iam", canary).create_user, UserName="x")
    aws.client("sts").get_caller_identity()
    heard = {state: drain(aws, url) for state, url in urls.items()}
    names = {state: [event["detail"]["eventName"] for event in said] for state, said in heard.items()}
    assert names == {
        "ENABLED": ["GetSessionToken", "CreateUser"],
        "DISABLED": [],
        "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS": ["GetCallerIdentity", "GetSessionToken", "CreateUser"],
    }
    event = heard["ENABLED"][1]
    assert (event["source"], event["account"], event["region"]) == ("aws.iam", aws.account, "us-east-1")
    assert event["detail"] == records(aws, canary)[-1]


def test_eventbridge_reaches_a_topic_too(aws: Loopback, canary: LoopbackKey) -> None:
    start_trail(aws)
    url, queue = make_queue(aws, "q")
    sns, events = aws.client("sns"), aws.client("events")
    topic = sns.create_topic(Name="t")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    events.put_rule(Name="r", EventPattern='{"detail": {"eventName": ["CreateUser"]}}')
    gone = topic + "-gone"
    elsewhere = f"arn:aws:lambda:us-east-1:{aws.account}:function:f"
    targets = [{"Id": str(number), "Arn": arn} for number, arn in enumerate((topic, gone, elsewhere))]
    events.put_targets(Rule="r", Targets=targets)
    code(aws.client("iam", canary).create_user, UserName="x")
    (message,) = drain(aws, url)
    assert json.loads(message["Message"])["detail"]["userIdentity"]["accessKeyId"] == canary.id


# Organisations.


def test_an_organisation_trail_holds_the_members_records(aws: Loopback) -> None:
    start_trail(aws, "early", IsOrganizationTrail=True)
    aws.client("sts").get_caller_identity()
    assert aws.trail.flush(), "without an organisation it is a trail of the account"
    aws.client("cloudtrail").delete_trail(Name="early")
    aws.trail.flush()
    organizations = aws.client("organizations")
    organizations.create_organization(FeatureSet="ALL")
    made = organizations.create_account(AccountName="dev", Email="dev@example.com")
    member = made["CreateAccountStatus"]["AccountId"]
    start_trail(aws, IsOrganizationTrail=True)
    role = f"arn:aws:iam::{member}:role/OrganizationAccountAccessRole"
    inside = session_key(aws.client("sts").assume_role(RoleArn=role, RoleSessionName="org")["Credentials"])
    aws.client("iam", inside).create_user(UserName="planted")
    key = aws.client("iam", inside).create_access_key(UserName="planted")["AccessKey"]
    planted = LoopbackKey(key["AccessKeyId"], Secret(key["SecretAccessKey"]))
    aws.trail.flush()
    assert aws.client("sts", planted).get_caller_identity()["Account"] == member
    (path,) = aws.trail.flush()
    assert LOG_NAME.fullmatch(path)
    assert f"/{member}/CloudTrail/" in path
    assert read_file(aws, path)["Records"][0]["recipientAccountId"] == member
    outsider = aws.add_account("210987654321")
    aws.client("sts", outsider).get_caller_identity()
    assert not [path for path in aws.trail.flush() if "210987654321" in path]
    with pytest.raises(ClientError):
        aws.client("organizations", planted).list_accounts()
