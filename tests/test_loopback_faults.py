"""The fault server fails in the ways it says, as boto3 sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from tests import faults
from tests.faults import Fault, FaultServer, Received


def sts(url: str, attempts: int = 1, timeout: float = 60) -> Any:
    return boto3.client(
        "sts",
        endpoint_url=url,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        config=Config(retries={"total_max_attempts": attempts}, read_timeout=timeout),
    )


def error_of(fault: Fault) -> ClientError:
    with FaultServer(fault) as server, pytest.raises(ClientError) as refused:
        sts(server.url).get_caller_identity()
    return refused.value


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (faults.THROTTLED, "Throttling"),
        (faults.INTERNAL_ERROR, "InternalFailure"),
        (faults.UNAVAILABLE, "ServiceUnavailable"),
        (faults.REJECTED, "InvalidClientTokenId"),
        (faults.WRONG_SECRET, "SignatureDoesNotMatch"),
        (faults.EXPIRED, "ExpiredToken"),
        (faults.CLOCK, "SignatureDoesNotMatch"),
    ],
)
def test_errors_arrive_with_their_code(fault: Fault, code: str) -> None:
    assert error_of(fault).response["Error"]["Code"] == code


def test_a_proxys_page_is_not_an_answer_of_aws() -> None:
    assert error_of(faults.PROXY_403).response.get("Error", {}).get("Code", "") in ("", "403", "Forbidden")
    for page in (faults.LOGIN_PAGE, faults.BAD_GATEWAY):
        with FaultServer(page) as server, pytest.raises((ResponseParserError, KeyError)):
            sts(server.url).get_caller_identity()


def test_a_hanging_server_runs_into_the_timeout_and_still_stops() -> None:
    with FaultServer(faults.HANG) as server, pytest.raises(ReadTimeoutError):
        sts(server.url, timeout=0.3).get_caller_identity()


def test_a_dead_port_refuses() -> None:
    with faults.dead_port() as url, pytest.raises(EndpointConnectionError):
        sts(url).get_caller_identity()


def test_a_reset_and_a_truncated_answer_break_the_connection() -> None:
    with FaultServer(faults.RESET) as server, pytest.raises(ConnectionClosedError):
        sts(server.url).get_caller_identity()
    with FaultServer(faults.TRUNCATED) as server, pytest.raises((ResponseStreamingError, ResponseParserError)):
        sts(server.url).get_caller_identity()


def test_an_intercepting_proxy_is_not_trusted(tmp_path: Path) -> None:
    with FaultServer(certificate=faults.untrusted_certificate(tmp_path)) as server, pytest.raises(SSLError):
        sts(server.url).get_caller_identity()


def test_faults_come_in_order_and_requests_are_kept() -> None:
    good = faults.identity_answer("arn:aws:iam::123456789012:root", "123456789012", "123456789012")
    with FaultServer(faults.UNAVAILABLE, good) as server:
        client = sts(server.url, attempts=2)
        assert client.get_caller_identity()["Account"] == "123456789012"
        assert client.get_caller_identity()["Arn"].endswith(":root")
    assert len(server.requests) == 3
    assert "Action=GetCallerIdentity" in server.requests[0].text
    assert "wJalrXUtnFEMI" not in server.requests[0].text


def test_an_answer_can_depend_on_the_request_and_on_a_wrong_clock() -> None:
    def script(received: Received) -> Fault:
        assert "AKIAIOSFODNN7EXAMPLE" in received.headers["authorization"]
        return faults.skewed(faults.json_error("ThrottlingException"), hours=2)

    with FaultServer(script) as server, pytest.raises(ResponseParserError, match="ThrottlingException"):
        sts(server.url).get_caller_identity()
    skewed = error_of(faults.skewed(faults.WRONG_SECRET, hours=-2))
    assert "date" in skewed.response["ResponseMetadata"]["HTTPHeaders"]
