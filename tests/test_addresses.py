"""Where an address is: from real MaxMind databases, made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from firedamp.service import cli
from firedamp.service.addresses import locator
from firedamp.service.config import WatchConfig
from firedamp.storage.errors import UsageFailure
from firedamp.storage.store import Store


@pytest.fixture
def databases(tmp_path: Path) -> WatchConfig:
    city = MMDBWriter(4, "GeoLite2-City")
    record = {"city": {"names": {"en": "Reykjavík"}}, "country": {"names": {"en": "Iceland"}}}
    city.insert_network(IPSet(["203.0.113.0/24"]), record)
    city.to_db_file(str(tmp_path / "city.mmdb"))
    network = MMDBWriter(4, "GeoLite2-ASN")
    network.insert_network(
        IPSet(["203.0.113.0/24"]),
        {"autonomous_system_number": 64500, "autonomous_system_organization": "Example Net"},
    )
    network.to_db_file(str(tmp_path / "asn.mmdb"))
    return WatchConfig(city_database=tmp_path / "city.mmdb", network_database=tmp_path / "asn.mmdb")


def test_an_address_has_a_place_and_a_network(databases: WatchConfig) -> None:
    locate = locator(databases)
    assert locate("203.0.113.7") == "Reykjavík, Iceland; AS64500 Example Net"
    assert locate("198.51.100.1") == ""
    assert locate("ec2.amazonaws.com") == "", "what is no address has no place"
    assert locator(WatchConfig())("203.0.113.7") == ""


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.mmdb").write_text("nonsense")
    for path in (tmp_path / "x.mmdb", tmp_path / "missing.mmdb"):
        with pytest.raises(UsageFailure, match="no MaxMind database"):
            locator(WatchConfig(city_database=path))


def test_an_alarm_names_the_place(databases: WatchConfig, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        f'[watch]\ncity_database = "{databases.city_database}"\nnetwork_database = "{databases.network_database}"\n'
    )
    key = "AKIAEXAMPLEEXAMPLE22"
    record = {
        "eventID": "e1", "eventTime": "2026-11-20T10:00:00Z", "eventName": "GetCallerIdentity",
        "eventSource": "sts.amazonaws.com", "sourceIPAddress": "203.0.113.7", "userIdentity": {"accessKeyId": key},
    }  # fmt: skip
    (tmp_path / "trail").mkdir()
    (tmp_path / "trail" / "one.json").write_text(json.dumps({"Records": [record]}))
    assert cli.main(["canary", "adopt", key]) == 0
    feed = (tmp_path / "trail").as_uri()
    assert cli.main(["watch", "--once", "--feed", feed, "--config", str(config)]) == 1
    with Store(Path.home() / "firedamp.db") as store:
        ((_, alert),) = store.alerts()
    assert "Reykjavík, Iceland; AS64500 Example Net" in dict(alert.facts)["address"]
