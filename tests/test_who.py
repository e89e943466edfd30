"""Who should act: findings shared out by repository, team and author."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tests.builders import make_key_id, make_secret
from tests.repositories import Repository

from firedamp.service import cli


def test_open_findings_are_shared_out(tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]) -> None:
    def key() -> str:
        return f"aws_access_key_id={make_key_id(rng)}\naws_secret_access_key={make_secret(rng)}\n"

    for name, count in (("web", 2), ("infra", 1)):
        repository = Repository(tmp_path / name)
        for number in range(count):
            repository.write(f"keys{number}", key())
        repository.commit("leak")
    (tmp_path / "loose").write_text(key())
    cli.main(["scan", str(tmp_path / "web"), str(tmp_path / "infra"), str(tmp_path / "loose"), "--offline", "--quiet"])
    capsys.readouterr()
    config = tmp_path / "c.toml"
    config.write_text(
        '[[team]]\nname = "platform"\nrepositories = ["*/infra"]\n[[team]]\nname = "shop"\nrepositories = ["*/web"]\n'
        'paths = ["keys0"]\n'
    )

    def share(by: str) -> dict[str, int]:
        arguments = ["findings", "list", "--by", by, "--config", str(config), "--format", "jsonl"]
        assert cli.main(arguments) == 0
        return {line[by]: line["keys"] for line in map(json.loads, capsys.readouterr().out.splitlines())}

    assert share("repository")[str(tmp_path / "web")] == 2
    assert share("repository")["(files)"] >= 1
    teams = share("team")
    assert (teams["platform"], teams["shop"]) == (1, 1)
    assert any("@" in author for author in share("author"))
    assert cli.main(["findings", "list", "--by", "team", "--config", str(config)]) == 0
    assert "platform: 1 key in 1 place, " in capsys.readouterr().out


def test_where_no_team_is_configured_the_repositorys_own_file_says_whose_a_path_is(
    tmp_path: Path, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = Repository(tmp_path / "web")
    for name in ("infra/a", "shop/b", "c"):
        repository.write(name, f"aws_access_key_id={make_key_id(rng)}\naws_secret_access_key={make_secret(rng)}\n")
    repository.write(".github/CODEOWNERS", "/infra/ @acme/platform @ada\n/shop/ @acme/shop\n")
    repository.commit("leak")
    bare = tmp_path / "web.git"
    repository.git("clone", "--quiet", "--bare", ".", str(bare))
    cli.main(["scan", str(bare), "--offline", "--quiet"])
    config = tmp_path / "c.toml"
    config.write_text('[[team]]\nname = "sellers"\npaths = ["shop/*"]\n')

    def share() -> dict[str, int]:
        capsys.readouterr()
        assert cli.main(["findings", "list", "--by", "team", "--config", str(config), "--format", "jsonl"]) == 0
        return {line["team"]: line["keys"] for line in map(json.loads, capsys.readouterr().out.splitlines())}

    assert share() == {"@acme/platform": 1, "@ada": 1, "sellers": 1, "(nobody named)": 1}
    bare.rename(tmp_path / "moved.git")
    assert share() == {"sellers": 1, "(nobody named)": 2}, "what is not there names nobody"
