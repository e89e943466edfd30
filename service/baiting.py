"""`canary`: leads each action to the module that carries it out, which is loaded for that action only."""

from __future__ import annotations

from firedamp.service import ledger
from firedamp.service.options import CanaryOptions, Common


def canary(options: CanaryOptions, common: Common) -> int:
    """Carry out one action on canaries; return the exit status."""
    with common.open_store() as store:
        match options.action:
            case "adopt":
                return ledger.adopt(options, common, store)
            case "list":
                return ledger.listing(options, common, store)
            case "mint" | "lint" | "retire" as action:
                from firedamp.service import minting

                return {"mint": minting.mint, "lint": minting.lint, "retire": minting.retire}[action](
                    options, common, store
                )
            case "nets":
                from firedamp.service import proving

                return proving.nets(options, common, store)
            case "drill":
                from firedamp.service import drilling

                return drilling.drill(options, common, store)
            case "plant":
                from firedamp.service import planting

                return planting.plant(options, common, store)
            case "check":
                from firedamp.service import drift

                return drift.check(options, common, store)
            case unknown:
                raise AssertionError(f"the command line lets no action {unknown} through")
