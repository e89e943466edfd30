"""CloudFormation resources that moto's templates lack, so that the project's own templates deploy here for real.

Each row of `_KINDS` makes one resource from its properties, with CloudFormation's names (CloudFormation resource and
property reference). A type that neither moto nor this table has is refused: a stack is never made in part.
Not kept: a bucket's lifecycle and object lock, tags of these resources, drift.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

from moto.cloudformation import parsing
from moto.cloudtrail.models import cloudtrail_backends
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.common_models import CloudFormationModel
from moto.iam.models import Role, User, iam_backends
from moto.s3.models import FakeBucket, s3_backends
from moto.sns.models import sns_backends
from moto.sqs.models import sqs_backends

from firedamp.service.loopback_moto import know_policy, set_boundary

Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Made:
    """A resource that exists: what `Ref` and `Fn::GetAtt` say of it, and how it is taken away."""

    id: str
    attributes: Mapping[str, str]
    undo: Callable[[], object]


@cache
def install() -> tuple[type[CloudFormationModel], ...]:
    """Teach moto's CloudFormation the kinds below; return their classes, which only the cache keeps alive."""
    taught = tuple(_teach(kind, name_property, make) for kind, (name_property, make) in _KINDS.items())
    bucket, user, role, module = (cast("Any", each) for each in (FakeBucket, User, Role, parsing))
    bucket.create_from_cloudformation_json = classmethod(
        _with_settings(bucket.create_from_cloudformation_json.__func__)
    )
    for kind in (user, role):
        kind.create_from_cloudformation_json = classmethod(
            _with_policies(kind.create_from_cloudformation_json.__func__)
        )
        kind.delete_from_cloudformation_json = classmethod(
            _without_policies(kind.delete_from_cloudformation_json.__func__)
        )
    find = module.resource_class_from_type

    def find_or_refuse(kind: str) -> object:
        found = find(kind)
        if found is None:
            raise NotImplementedError(f"template resource {kind}")
        return found

    module.resource_class_from_type = find_or_refuse
    for table in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        table.cache_clear()
    return taught


def _teach(
    kind: str, name_property: str, make: Callable[[str, Properties, str, str], _Made]
) -> type[CloudFormationModel]:
    """Declare a class for a kind: moto finds the direct subclasses of its model by itself."""

    class Taught(CloudFormationModel):
        def __init__(self, made: _Made) -> None:
            self._made = made
            self.physical_resource_id = made.id

        @staticmethod
        def cloudformation_name_type() -> str:
            return name_property

        @staticmethod
        def cloudformation_type() -> str:
            return kind

        @classmethod
        def has_cfn_attr(cls, attr: str) -> bool:
            return attr == "Arn"

        def get_cfn_attribute(self, attribute_name: str) -> str:
            return self._made.attributes[attribute_name]

        @classmethod
        def create_from_cloudformation_json(
            cls, resource_name: str, cloudformation_json: dict[str, Any], account_id: str, region_name: str, **_: Any
        ) -> Taught:
            return cls(make(resource_name, cloudformation_json["Properties"], account_id, region_name))

        @classmethod
        def update_from_cloudformation_json(
            cls,
            original_resource: Taught,
            new_resource_name: str,
            cloudformation_json: dict[str, Any],
            account_id: str,
            region_name: str,
        ) -> Taught:
            original_resource.delete(account_id, region_name)
            return cls.create_from_cloudformation_json(new_resource_name, cloudformation_json, account_id, region_name)

        def delete(self, _account_id: str, _region_name: str) -> None:
            self._made.undo()

        def is_created(self) -> bool:
            return True

    return Taught


def _trail(name: str, properties: Properties, account: str, region: str) -> _Made:
    backend = cloudtrail_backends[account][region]
    said = properties.get
    trail = backend.create_trail(
        name=name,
        bucket_name=properties["S3BucketName"],
        s3_key_prefix=said("S3KeyPrefix", ""),
        sns_topic_name=said("SnsTopicName", "").rsplit(":", 1)[-1],
        is_global=_yes(said("IncludeGlobalServiceEvents", True)),
        is_multi_region=_yes(said("IsMultiRegionTrail", False)),
        log_validation=_yes(said("EnableLogFileValidation", False)),
        is_org_trail=_yes(said("IsOrganizationTrail", False)),
        cw_log_group_arn=said("CloudWatchLogsLogGroupArn", ""),
        cw_role_arn=said("CloudWatchLogsRoleArn", ""),
        kms_key_id=said("KMSKeyId", ""),
        tags_list=[],
    )
    trail.put_event_selectors(said("EventSelectors", []), said("AdvancedEventSelectors", []))
    if _yes(properties["IsLogging"]):
        trail.start_logging()
    return _Made(name, {"Arn": trail.arn}, lambda: backend.delete_trail(name))


def _bucket_policy(name: str, properties: Properties, account: str, _region: str) -> _Made:
    document = _text(properties["PolicyDocument"])
    s3_backends[account]["aws"].put_bucket_policy(properties["Bucket"], document.encode())
    return _Made(name, {}, _nothing)


def _queue_policy(name: str, properties: Properties, account: str, region: str) -> _Made:
    for queue in properties["Queues"]:
        attributes = {"Policy": _text(properties["PolicyDocument"])}
        sqs_backends[account][region].set_queue_attributes(queue.rsplit("/", 1)[-1], attributes)
    return _Made(name, {}, _nothing)


def _topic_policy(name: str, properties: Properties, account: str, region: str) -> _Made:
    for topic in properties["Topics"]:
        sns_backends[account][region].set_topic_attribute(topic, "policy", _text(properties["PolicyDocument"]))
    return _Made(name, {}, _nothing)


def _nothing() -> None:
    """Take nothing away: a policy goes with what it is about."""


def _subscription(_name: str, properties: Properties, account: str, region: str) -> _Made:
    backend = sns_backends[account][region]
    made = backend.subscribe(properties["TopicArn"], properties["Endpoint"], properties["Protocol"])
    return _Made(made.arn, {"Arn": made.arn}, lambda: backend.unsubscribe(made.arn))


def _alarm(name: str, properties: Properties, account: str, region: str) -> _Made:
    backend, said = cloudwatch_backends[account][region], properties.get
    alarm = backend.put_metric_alarm(
        name=name,
        namespace=said("Namespace", ""),
        metric_name=said("MetricName", ""),
        comparison_operator=properties["ComparisonOperator"],
        evaluation_periods=int(properties["EvaluationPeriods"]),
        period=int(said("Period", 60)),
        threshold=float(said("Threshold", 0)),
        statistic=said("Statistic", ""),
        description=said("AlarmDescription", ""),
        dimensions=said("Dimensions", []),
        alarm_actions=said("AlarmActions", []),
        ok_actions=said("OKActions", []),
        treat_missing_data=said("TreatMissingData", "missing"),
    )
    return _Made(name, {"Arn": alarm.alarm_arn}, lambda: backend.delete_alarms([name]))


_KINDS: Final[Mapping[str, tuple[str, Callable[[str, Properties, str, str], _Made]]]] = {
    "AWS::CloudTrail::Trail": ("TrailName", _trail),
    "AWS::S3::BucketPolicy": ("", _bucket_policy),
    "AWS::SQS::QueuePolicy": ("", _queue_policy),
    "AWS::SNS::TopicPolicy": ("", _topic_policy),
    "AWS::SNS::Subscription": ("", _subscription),
    "AWS::CloudWatch::Alarm": ("AlarmName", _alarm),
}


def _with_settings(make: Callable[..., Any]) -> Callable[..., Any]:
    """Let a template's bucket have its notifications, versioning and public access block, which moto leaves out."""

    def made_with_settings(
        kind: object, name: str, template: dict[str, Any], account_id: str, region: str, **more: Any
    ) -> Any:
        bucket = make(kind, name, template, account_id, region, **more)
        said, backend = template.get("Properties", {}).get, s3_backends[account_id]["aws"]
        if said("VersioningConfiguration"):
            backend.put_bucket_versioning(name, said("VersioningConfiguration")["Status"])
        if said("PublicAccessBlockConfiguration"):
            block = {setting: _yes(value) for setting, value in said("PublicAccessBlockConfiguration").items()}
            backend.put_public_access_block(name, block)
        if said("NotificationConfiguration"):
            backend.put_bucket_notification_configuration(name, _notifications(said("NotificationConfiguration")))
        return bucket

    return made_with_settings


def _with_policies(make: Callable[..., Any]) -> Callable[..., Any]:
    """Let a template's user or role have its policies and boundary, which moto leaves out or keeps as they are."""

    def made_with_policies(
        kind: object, name: str, template: dict[str, Any], account_id: str, region: str, **more: Any
    ) -> Any:
        holder = make(kind, name, template, account_id, region, **more)
        said, backend = template.get("Properties", {}).get, iam_backends[account_id]["aws"]
        attach = backend.attach_user_policy if kind is User else backend.attach_role_policy
        for policy in said("Policies", []):
            holder.put_policy(policy["PolicyName"], _text(policy["PolicyDocument"]))
        for arn in said("ManagedPolicyArns", []):
            know_policy(account_id, arn)
            attach(arn, holder.name)
        if kind is User and said("PermissionsBoundary"):
            set_boundary(account_id, holder.name, said("PermissionsBoundary"))
        return holder

    return made_with_policies


def _without_policies(delete: Callable[..., None]) -> Callable[..., None]:
    """Let a stack's user or role be deleted with it: CloudFormation takes its policies away first."""

    def deleted_without_policies(kind: object, name: str, template: object, account_id: str, region: str) -> None:
        backend = iam_backends[account_id]["aws"]
        holder = backend.get_user(name) if kind is User else backend.get_role(name)
        detach = backend.detach_user_policy if kind is User else backend.detach_role_policy
        holder.policies.clear()
        for arn in tuple(holder.managed_policies):
            detach(arn, name)
        delete(kind, name, template, account_id, region)

    return deleted_without_policies


def _notifications(said: Properties) -> dict[str, Any]:
    """Turn a template's notifications into moto's, which follow the S3 API's XML."""

    def rows(kind: str, target: str) -> list[dict[str, Any]]:
        found = []
        for row in said.get(kind, []):
            rules = row.get("Filter", {}).get("S3Key", {}).get("Rules", [])
            filters = {"S3Key": {"FilterRule": rules}} if rules else None
            found.append({target: row[target], "Event": [row["Event"]], "Filter": filters})
        return found

    bridge = said.get("EventBridgeConfiguration")
    return {
        "QueueConfiguration": rows("QueueConfigurations", "Queue"),
        "TopicConfiguration": rows("TopicConfigurations", "Topic"),
        "EventBridgeConfiguration": {} if bridge is not None else None,
    }


def _yes(value: object) -> bool:
    """Read a truth of a template, which may be text."""
    return str(value).lower() == "true"


def _text(document: object) -> str:
    """Write a policy document as JSON; YAML turns its version into a date."""
    return document if isinstance(document, str) else json.dumps(document, default=str)
