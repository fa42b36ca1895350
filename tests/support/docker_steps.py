"""Runs the Dockerfile's own steps without Docker, in an empty directory: build, install, start, health check, stop.

`python -m tests.support.docker_steps`. It reads the commands from the Dockerfile, so it cannot drift from it; only the
absolute paths of the image are mapped into the directory. When it runs as root, the server runs as another user.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import jwt

from server.supervisor.process import Launch, SystemUser, inherited_environment, popen
from tests.support.services import REPOSITORY, free_ports, status_of, wait_until

INTERPRETERS = (Path(sys.base_prefix) / "bin" / "python3", Path("/usr/bin/python3.11"), Path("/usr/bin/python3"))


class Image:
    """The Dockerfile's instructions, and the directory that stands for the image's root."""

    def __init__(self, text: str, root: Path) -> None:
        joined = re.sub(r"\\\n(?:\s*#.*\n)*\s*", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
        self.steps = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
        self._root = root

    def map(self, text: str) -> str:
        """Map paths of the image to paths below the directory."""
        return re.sub(r"(?<![\w.])/(build|wheels|data)\b", lambda match: str(self._root / match[1]), text)

    def all(self, instruction: str) -> list[str]:
        """Return the arguments of each such instruction, in order."""
        return [rest for name, rest in self.steps if name == instruction]

    def run_with(self, word: str) -> str:
        """Return the command of the RUN step that contains `word`, without its mounts."""
        command = next(each for each in self.all("RUN") if word in each)
        return self.map(re.sub(r"--mount=\S+\s+", "", command))

    def environment(self) -> dict[str, str]:
        """Return the variables that ENV sets."""
        pairs = re.findall(r"(\w+)=(\S+)", " ".join(self.all("ENV")))
        return {name: self.map(value) for name, value in pairs}


def main() -> int:
    """Run all steps; return the exit status of the stopped server."""
    root = Path(tempfile.mkdtemp(prefix="docker-steps-"))
    account = _someone_else()
    try:
        image = Image((REPOSITORY / "Dockerfile").read_text(), root)
        python = _interpreter(account)
        _copy_context(root / "build")
        _step("stage one: wheels", image.run_with("pip wheel"), _environment_of(python, root / "tools"), root / "build")
        path = _environment_of(python, root / "installed")
        _step("stage two: install", image.run_with("from=build"), path, root)
        (root / "data").mkdir(mode=0o700)
        if account is not None:
            root.chmod(0o711)
            os.chown(root / "data", account.uid, account.gid)
        return _serve(image, path, root / "data", account)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _serve(image: Image, path: str, data: Path, account: SystemUser | None) -> int:
    port = str(free_ports(1)[0])
    environment = {**inherited_environment(), "PATH": path, "HOME": str(data), **image.environment(), "PORT": port}
    environment["HOST"] = "127.0.0.1"  # not the container's 0.0.0.0: this is a developer's machine
    entry = [*json.loads(image.all("ENTRYPOINT")[0]), *json.loads(image.all("CMD")[-1])]
    entry[0] = str(Path(path.partition(":")[0], entry[0]))
    health = json.loads(re.sub(r"^.*?CMD\s+", "", image.all("HEALTHCHECK")[0]))
    _say(f"start {' '.join(entry[1:])} as {account.name if account else 'this user'}")
    began = time.monotonic()
    server = popen(Launch(entry, environment, data, account), None)
    try:
        wait_until(lambda: server.poll() is not None or _healthy(health, environment), 60)
        wait_until(lambda: server.poll() is not None or status_of(f"http://127.0.0.1:{port}/ready") == 200, 60)
        _say(f"healthy and ready after {time.monotonic() - began:.1f} s" if server.poll() is None else "it has ended")
        _check_secret(f"http://127.0.0.1:{port}", data)
    finally:
        if server.poll() is None:
            server.send_signal(getattr(signal, image.all("STOPSIGNAL")[0]))
        code = server.wait(60)
    _say(f"stopped with {code}")
    return code


def _check_secret(url: str, data: Path) -> None:
    """Check that the volume's signing secret is its owner's alone, and that a published secret signs nothing."""
    kept = data / "jwt.secret"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600, "the secret is not its owner's alone"
    moment = int(time.time())
    claims = {"sub": "demo", "is_demo": True, "permissions": ["read:signals"], "sid": None, "jti": "1"}
    claims |= {"iat": moment, "exp": moment + 900, "iss": "tradestream.io", "aud": "tradestream-api"}
    claims |= {"email": None, "name": None, "is_provider": False, "email_verified": False}
    secrets = ["development-only-secret-that-signs-nothing-of-value", "secret" * 8, kept.read_text()]
    statuses = []
    for secret in secrets:
        request = Request(f"{url}/api/providers", headers={"Authorization": f"Bearer {jwt.encode(claims, secret)}"})
        try:
            with urlopen(request, timeout=10) as response:
                statuses.append(response.status)
        except HTTPError as error:
            error.close()
            statuses.append(error.code)
    assert statuses == [401, 401, 200], f"tokens of {len(secrets)} secrets were answered {statuses}"
    _say("the secret is on the volume, and no published one opens anything")


def _healthy(command: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=10).returncode == 0


def _copy_context(target: Path) -> None:
    """Copy the files that .dockerignore lets through: those that it names after a `*`."""
    lines = (REPOSITORY / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    target.mkdir()
    for name in (line[1:] for line in lines if line.startswith("!")):
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)


def _environment_of(python: Path, folder: Path) -> str:
    subprocess.run([sys.executable, "-m", "virtualenv", "--quiet", "--python", python, folder], check=True)
    return f"{folder / 'bin'}:{os.defpath}"


def _step(title: str, command: str, path: str, folder: Path) -> None:
    _say(title)
    began = time.monotonic()
    subprocess.run(["/bin/sh", "-c", command], env={**inherited_environment(), "PATH": path}, cwd=folder, check=True)
    _say(f"done in {time.monotonic() - began:.0f} s")


def _someone_else() -> SystemUser | None:
    """Return a user that is not root, as in the image: `nobody` if this process is root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _interpreter(account: SystemUser | None) -> Path:
    """Return a Python that the server's user may execute, which none below /root is."""
    for each in INTERPRETERS:
        who = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
        try:
            subprocess.run([each, "-c", "import sys; assert sys.version_info >= (3, 11)"], check=True, **who)
        except (OSError, subprocess.CalledProcessError):
            continue
        return each
    raise SystemExit(f"no Python 3.11 that {account.name if account else 'we'} may execute: {INTERPRETERS}")


def _say(text: str) -> None:
    sys.stdout.write(f"== {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
