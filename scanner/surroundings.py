"""What stands beside a credential and says more of it: expiry, region, endpoint, profile. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_MARKUP: Final = re.compile(r"</[^<>]{0,80}>|[<>]")
_WRITTEN_END: Final = re.compile(r"(?:\\{1,4}r)?\\{1,4}n")
"""A line end as JSON and source code write it."""
_EXPIRY: Final = re.compile(
    r"(?<![\w.-])(?P<label>[\w.-]{0,48}?expir(?:ation|es|y)(?:_?(?:at|date|time|on|utc))?)\W{1,40}?"
    r"(?:(?P<iso>\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)\s?(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?"
    r"|(?P<epoch>\d{13}|\d{10})(?!\d)"
    r"|(?P<mail>[A-Z][a-z]{2},? \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d (?:GMT|UTC|[+-]\d{4})))",
    re.IGNORECASE,
)
# A certificate, a licence and a cookie expire too: a label may say nothing else than that a session does.
_EXPIRY_LABEL: Final = re.compile(
    r"(?:x|aws|awsume|amz|sts|sso|iam|security|session|access|token|key|principal|credentials?|temp|temporary|assumed?|role"
    r"|federation|user|result|response|output|expir(?:ation|es|y)|at|date|time|on|utc)+"
)
_NO_LETTER: Final = re.compile(r"[\W\d_]+")
_COOKIE: Final = re.compile(r";[ \t]*\Z|cookie[^\n]*\Z", re.IGNORECASE)
_AREA: Final = (
    r"(?<![A-Za-z0-9-])(?:us-gov|us-isob?|us-isof|eu-isoe|eusc-de|us|eu|ap|sa|ca|me|af|il|mx|cn)"
    r"-(?:north|south|east|west|central|northeast|northwest|southeast|southwest)-\d(?![A-Za-z0-9-])"
)
_REGION: Final = re.compile(_AREA)
_NAMED_REGION: Final = re.compile(rf"region[^\n]{{0,60}}?({_AREA})", re.IGNORECASE)
_ARN: Final = re.compile(r"arn:aws[a-z-]{0,16}:[a-z0-9-]{1,40}:[a-z0-9-]{0,24}:\d{0,12}:[\w/.*:@+=,-]{1,200}")
_ENDPOINT: Final = re.compile(
    r"(?<![\w.-])(?P<label>[\w.-]{0,40}(?:endpoint|host_?base|host_?bucket|service_?url|s3_?url|s3_?host|minio_?url"
    r"|minio_?host|storage_?url)[\w.-]{0,24})"
    r"[^\w\n/]{0,20}\n?[^\w\n/]{0,40}(?:value\W{1,8}|(?:new )?[\w.]{1,40}\([\"'`])?"
    r"(?P<url>(?:https?:(?:\\{0,4}/){2})?(?:%\(bucket\)s\.|[^/\s\"'@<>]{1,80}@)?"
    r"(?P<host>(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}[A-Za-z0-9-]{2,24}|\d{1,3}(?:\.\d{1,3}){3}|localhost"
    r"|[a-z][a-z0-9-]{1,40}(?=:\d))(?::\d{1,5})?)(?![\w(\[-]|\.\w)",
    re.IGNORECASE,
)
# In source code a name stands where a host may: `process.env.ENDPOINT`, `self.endpoint`, `config.get("s3.url")`.
_OBJECTS: Final = frozenset(
    "process env os environ import this self settings conf config cfg opts options props params args ctx context var"
    " local module inputs each".split()
)
_ENDPOINT_LABELS: Final = tuple(
    "endpoint hostbase host_base hostbucket host_bucket serviceurl service_url s3url s3_url s3host s3_host miniourl"
    " minio_url miniohost minio_host storageurl storage_url".split()
)
# `endpoint` alone names the key's own, and so does one with a word of storage; `SENTRY_ENDPOINT` does not.
_LABEL_WORD: Final = re.compile(r"[sS]3[aA]?|[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_STORE_WORDS: Final = frozenset("s3 s3a aws minio storage object bucket store spaces wasabi".split())
_ENDPOINT_WORDS: Final = frozenset("endpoint url uri host base hostbase hostname address custom override".split())
# The endpoint of another service, which may well run on this machine while the key is for the real S3.
_OTHER_SERVICES: Final = frozenset(
    "dynamo dynamodb sqs sns ses sts iam lambda kinesis opensearch elasticsearch cognito iot cdn cloudfront".split()
)
_NAMED_STORES: Final = frozenset("minio wasabi spaces storage bucket".split())
# A plain `url` or `host` names where a key belongs only when the host is a known store that speaks S3.
_STORE_DOMAINS: Final = tuple(
    "wasabisys.com cloudflarestorage.com backblazeb2.com digitaloceanspaces.com linodeobjects.com scw.cloud"
    " storage.googleapis.com aliyuncs.com myqcloud.com ovh.net vultrobjects.com dream.io idrivee2- min.io"
    " storjshare.io exo.io contabostorage.com upcloudobjects.com".split()
)
_ENDPOINT_HINTS: Final = (*_ENDPOINT_LABELS, *_STORE_DOMAINS, "localhost", "127.0.0.1", "minio", "localstack")
"""A key that is not for AWS has one of these beside it. The expressions are slow, and most places have none."""
_STORES: Final = re.compile(
    r"(?P<url>(?:https?:(?:\\{0,4}/){2})?(?P<host>(?:[a-z0-9-]{1,63}\.){0,6}"
    r"(?:wasabisys\.com|r2\.cloudflarestorage\.com|backblazeb2\.com|digitaloceanspaces\.com|linodeobjects\.com"
    r"|scw\.cloud|storage\.googleapis\.com(?!/\w)|oss-[\w-]+\.aliyuncs\.com|cos\.[\w-]+\.myqcloud\.com"
    r"|s3\.[\w.-]{1,60}\.ovh\.net|vultrobjects\.com|dream\.io|idrivee2-\d+\.com|play\.min\.io|storjshare\.io|exo\.io"
    r"|contabostorage\.com|upcloudobjects\.com))(?::\d{1,5})?)",
    re.IGNORECASE,
)
# `APP_URL=http://localhost` is where an application runs. A store on this machine is known by its name or its port:
# MinIO 9000, LocalStack 4566 and 4572, Ceph 7480, SeaweedFS 8333, Garage 3900.
_LOOPBACK: Final = re.compile(
    r"(?<![\w.-])(?P<label>[\w.-]{0,40}(?:url|host|server)[\w.-]{0,24})\W{1,12}"
    r"(?P<url>https?:(?:\\{0,4}/){2}"
    r"(?P<host>(?:minio|localstack)(?:[.-][\w.-]{1,80})?(?![\w.-])|(?:localhost|127\.0\.0\.1)(?=:(?:9000|4566|4572|7480|8333|3900)(?!\d)))"
    r"(?::\d{1,5})?)",
    re.IGNORECASE,
)
# Another store's id under the name of an id: letters and digits, of another form than AWS's, and no placeholder.
_FOREIGN_ID: Final = re.compile(
    r"(?<!secret)(?<!secret[_. -])access[_. -]?key(?:[_. -]?id)?[^\w\n]{1,12}(?:value\W{1,8})?"
    r"(?!A[KSBC]IA)(?=[A-Z]{0,63}\d)(?!\w{0,63}(?:EXAMPLE|XXX))(?P<id>[A-Z0-9]{16,64})(?!\w)",
    re.IGNORECASE,
)
_BLANK: Final = re.compile(r"\n[ \t\r]*\n")
_LINE_END: Final = re.compile(r"(?<!\\)\r?\n")
_OWN_LABEL: Final = re.compile(r"([A-Za-z][\w.-]{0,60})[^\w\n]{0,12}\Z")
_AWS_HOST: Final = re.compile(
    r"(?:^|\.)(?:amazonaws\.com(?:\.cn)?|api\.aws|aws\.dev|c2s\.ic\.gov|sc2s\.sgov\.gov)$", re.IGNORECASE
)
_LINE: Final = 400
"""Characters before `Expires` in which its line may say that it is a cookie's."""
# rclone knows the endpoints of its providers: a remote need not name them.
_PROVIDER: Final = re.compile(r"^[ \t]*provider[ \t]*=[ \t]*(?!(?:AWS|Other)\b)(\w{1,40})[ \t\r]*$", re.MULTILINE)
_S3_REMOTE: Final = re.compile(r"^[ \t]*type[ \t]*=[ \t]*s3[ \t\r]*$", re.MULTILINE)
_LONG_TERM: Final = re.compile(r"[ \t]*\[[^\]\n]{1,120}-long-term\]")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a place says of the credential in it. hint: a non-AWS endpoint, else region, ARN or AWS endpoint."""

    expires: datetime | None = None
    hint: str = ""
    notes: tuple[str, ...] = ()


def around(text: str, where: tuple[int, int, int, int], section: int | None) -> Surroundings:
    """Read what stands around a credential; where is (low, start, end, high): the place and, in it, the credential.

    section is the offset of its section's header line.

    What follows the credential counts before what precedes it: in a flat file the next one's lines come after it.
    """
    low, start, end, high = where
    after, before, inside = (
        _WRITTEN_END.sub("\n", part)
        for part in (_MARKUP.sub(" ", text[end:high]), _MARKUP.sub(" ", text[low:start]), text[start:end])
    )
    place = f"{after}\n\n{before}\n\n{inside}"
    lowered = place.lower()
    notes: list[str] = []
    hint = ""
    endpoint = None
    if any(word in lowered for word in _ENDPOINT_HINTS):
        # Across a blank line stands what is another key's or nobody's: a key is AWS's until something says otherwise.
        paragraph = f"{_BLANK.split(after, 1)[0]}\n\n{_BLANK.split(before)[-1]}\n\n{inside}"
        endpoint = _endpoint(paragraph if section is None else place, paragraph, (before, inside, after))
    if endpoint is not None and _AWS_HOST.search(endpoint["host"]) is None:
        notes.append(f"non-AWS endpoint: {endpoint['host']}")
        hint = endpoint["url"].replace("\\", "")
    elif (region := _region(place, lowered)) is not None:
        hint = region
    elif endpoint is not None:
        hint = endpoint["host"]
    if section is not None and not notes and _S3_REMOTE.search(place) is not None:
        notes += [f"non-AWS endpoint: {provider[1]}" for provider in _PROVIDER.finditer(place)]
    if section is not None and _LONG_TERM.match(text, section) is not None:
        notes.append("long-term profile of aws-mfa")
    return Surroundings(_expiry(place) if "expir" in lowered else None, hint, tuple(notes))


def foreign_id(text: str, where: tuple[int, int, int, int]) -> str | None:
    """Return the id that stands in the paragraph of a secret without an id of AWS's, and is another store's."""
    low, start, end, high = where
    paragraph = _MARKUP.sub(" ", f"{_BLANK.split(text[low:start])[-1]}\n{_BLANK.split(text[end:high], 1)[0]}")
    found = _FOREIGN_ID.search(paragraph)
    return None if found is None else found["id"]


def _endpoint(place: str, paragraph: str, parts: tuple[str, str, str]) -> re.Match[str] | None:
    """Find where the credential is used: by a label in its place, else by a known store in its paragraph.

    parts are what stands before the credential, in it and after it; before it stands its own label.
    """
    before, inside, after = parts
    own = _OWN_LABEL.search(before)
    of_aws = own is not None and _words(own[1])[:1] == ["aws"]
    command = f"{_LINE_END.split(before)[-1]}\n{inside}\n{_LINE_END.split(after, 1)[0]}"

    def labelled(expression: re.Pattern[str], text: str) -> re.Match[str] | None:
        return next((found for found in expression.finditer(text) if _is_label(found, of_aws, command)), None)

    return labelled(_ENDPOINT, place) or _STORES.search(paragraph) or labelled(_LOOPBACK, paragraph)


def _is_label(found: re.Match[str], of_aws: bool, command: str) -> bool:
    """Whether a label names the endpoint of the credential beside it, and not of another one, service or command.

    of_aws says that the credential's own label begins with `aws`; command is the line that it stands in.
    """
    if found["label"].startswith("-") and found[0] not in command:
        return False
    if found["url"] == found["host"] and _is_code(found["host"], found.string[found.start("host") - 1]):
        return False
    words = _words(found["label"])
    if of_aws and words[0] in _NAMED_STORES:
        return False
    if _STORE_WORDS.isdisjoint(words):
        return _ENDPOINT_WORDS.issuperset(words)
    return _OTHER_SERVICES.isdisjoint(words)


def _is_code(host: str, before: str) -> bool:
    """Whether a host without scheme and port, behind the character before, names a value in source code."""
    names = host.split(".")
    if len(names) > 1 and _ENDPOINT_WORDS.issuperset(_words(names[-1])) and not names[-1].isdigit():
        return True
    return before not in "\"'`" and (names[0] in _OBJECTS or (len(names) > 1 and names[-1] != names[-1].lower()))


def _words(label: str) -> list[str]:
    return [word.lower() for word in _LABEL_WORD.findall(label)]


def _region(place: str, lowered: str) -> str | None:
    """Find a region under its name, else the ARN of something, else any region."""
    named = _NAMED_REGION.search(place) if "region" in lowered else None
    if named is not None:
        return named[1]
    found = (_ARN.search(place) if "arn:aws" in lowered else None) or _REGION.search(place)
    return None if found is None else found[0]


def _expiry(place: str) -> datetime | None:
    for found in _EXPIRY.finditer(place):
        label = _NO_LETTER.sub("", found["label"]).lower()
        cookie = label == "expires" and _COOKIE.search(place, max(0, found.start() - _LINE), found.start()) is not None
        if not cookie and _EXPIRY_LABEL.fullmatch(label) is not None:
            return _moment(found)
    return None


def _moment(found: re.Match[str]) -> datetime | None:
    try:
        if found["epoch"] is not None:
            return datetime.fromtimestamp(int(found["epoch"][:10]), UTC)
        if found["mail"] is not None:
            from email.utils import parsedate_to_datetime  # brings much along for what is rare

            return parsedate_to_datetime(found["mail"]).astimezone(UTC)
        moment = datetime.fromisoformat(found["iso"])
        zone = found["zone"]
        # aws-mfa and saml2aws write their times in UTC without saying so.
        if zone is None or zone.upper() in {"Z", "UTC", "GMT"}:
            return moment.replace(tzinfo=UTC)
        return datetime.fromisoformat(found["iso"] + zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
