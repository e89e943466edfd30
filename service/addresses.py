"""Where an address is and whose network it is, from MaxMind's databases on this machine. Nobody is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from firedamp.service.config import WatchConfig
from firedamp.storage.errors import UsageFailure


def locator(config: WatchConfig) -> Callable[[str], str]:
    """Return what words an address: `Reykjavík, Iceland; AS64500 Example Net`, or nothing that the databases lack.

    Raises UsageFailure for a configured database that cannot be read.
    """
    city, network = _reader(config.city_database), _reader(config.network_database)

    def locate(address: str) -> str:
        found = (_city(_looked_up(city, address)), _network(_looked_up(network, address)))
        return "; ".join(each for each in found if each)

    return locate


def _reader(path: Path | None) -> Any:
    if path is None:
        return None
    import maxminddb

    try:
        return maxminddb.open_database(str(path))
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        raise UsageFailure(
            f"{path} is no MaxMind database: {error}", "see city_database and network_database"
        ) from error


def _looked_up(reader: Any, address: str) -> dict[str, Any]:
    """Return the record of an address. What stands in sourceIPAddress is not always one."""
    if reader is None:
        return {}
    try:
        found = reader.get(address)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _city(record: dict[str, Any]) -> str:
    names = [record.get(part, {}).get("names", {}).get("en") for part in ("city", "country")]
    return ", ".join(str(name) for name in names if name)


def _network(record: dict[str, Any]) -> str:
    number, name = record.get("autonomous_system_number"), record.get("autonomous_system_organization")
    return " ".join(str(each) for each in (f"AS{number}" if number else None, name) if each)
