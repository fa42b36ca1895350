"""No secret is public: one that is not set is made once per data directory, the same for every process."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import pytest

from config.settings import ConfigurationError, Settings
from server.supervisor.secrets import kept_secret, with_kept_secrets


def test_processes_that_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    """The kind: several gateways, or a gateway and a supervisor, that find no secret at the same time."""
    path = tmp_path / "data" / "jwt.secret"
    with multiprocessing.get_context("fork").Pool(8) as pool:
        made = set(pool.map(kept_secret, [path] * 32))
    assert made == {path.read_text()}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_secret_survives_restarts_and_a_start_that_died_before_writing_it(tmp_path: Path) -> None:
    path = tmp_path / "jwt.secret"
    path.touch(0o644)
    first = kept_secret(path)
    assert kept_secret(path) == first
    assert len(first) > 80
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_given_secret_is_kept_out_of_the_directory(tmp_path: Path) -> None:
    settings = Settings.load(env_file=None).replace(data_dir=tmp_path, jwt_secret="given")
    assert with_kept_secrets(settings) is settings
    assert list(tmp_path.iterdir()) == []


def test_two_data_directories_have_two_secrets(tmp_path: Path) -> None:
    settings = Settings.load(env_file=None)
    made = {with_kept_secrets(settings.replace(data_dir=tmp_path / name)).jwt_secret for name in "ab"}
    assert len(made) == 2


@pytest.mark.parametrize("kind", ["short", "link", "directory", "below a file"])
def test_an_unusable_secret_is_explained_in_words(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "jwt.secret"
    if kind == "short":
        path.write_text("secret")
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_text("")
        path = path / "jwt.secret"
    with pytest.raises(ConfigurationError, match="DATA_DIR: ") as caught:
        kept_secret(path)
    assert str(path) in str(caught.value)
