"""A whole server, asked by Schemathesis whether it keeps to its OpenAPI document: all phases, all checks, for a while.

The kind of fault: what the document does not say. A status or header that is not declared, a value that the schema lets
in and the handler does not, an answer of another form, a route that does not mind a missing token. `schemathesis.toml`
has the exceptions with their reasons. The seed is fixed; `make fuzz` asks for longer, and by chance.
"""

from __future__ import annotations

import json
import mailbox
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.fuzz.budget import fuzz_seconds, fuzz_seed
from tests.support.services import Server, wait_until

CONFIG = Path(__file__).with_name("schemathesis.toml")
SHORT_RUN_SECONDS = 5  # of chance, as a part of `make test`; the other phases end by themselves, after some 40 s
WHOLE_PHASES = ("Examples", "Coverage", "Stateful")
ADDRESS, PASSWORD = "asker@example.com", "correct horse battery"


def asked(server: Server, path: str, body: dict[str, Any]) -> Any:
    """Send a POST that must succeed; return its JSON."""
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{server.url}{path}", json.dumps(body).encode(), headers), timeout=10) as response:
        return json.load(response)


def token_of(server: Server) -> str:
    """Return the access token of a new, verified account."""
    asked(server, "/auth/register", {"email": ADDRESS, "password": PASSWORD, "display_name": "Asker"})
    folder = server.data_dir / "mail"
    wait_until(lambda: folder.exists() and len(mailbox.Maildir(folder)) > 0, 30)
    [message] = [each.as_string() for each in mailbox.Maildir(folder)]
    found = re.search(r"token=([A-Za-z0-9_-]{43})", message)
    assert found is not None, message
    asked(server, "/auth/verify-email", {"token": found[1]})
    return str(asked(server, "/auth/login", {"email": ADDRESS, "password": PASSWORD})["access_token"])


def ask(server: Server, folder: Path, token: str, *options: str, seconds: float) -> str:
    """Run Schemathesis, which must find nothing; return its output."""
    made = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG), "run"),
            *(f"{server.url}/api/openapi.json", "-H", f"Authorization: Bearer {token}"),
            # One worker: Python 3.11 can fail to parse source in two threads at once (a SystemError of `ast.parse`).
            *("--seed", str(fuzz_seed()), "--workers", "1", "--no-color", *options),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=seconds,
    )
    assert made.returncode == 0, made.stdout[-20_000:] + made.stderr[-2_000:]
    return made.stdout


def test_the_server_keeps_to_its_document(tmp_path: Path) -> None:
    ends = time.monotonic() + fuzz_seconds()
    with Server(tmp_path / "data", RATE_LIMIT_ENABLED="false") as server:
        server.start().wait_ready(120)
        token = token_of(server)
        phases = ",".join(WHOLE_PHASES).lower()
        said = ask(server, tmp_path, token, "--phases", phases, "--max-examples", "2", seconds=600)
        for phase in WHOLE_PHASES:  # none was skipped, and none cut short by a clock
            assert re.search(rf"✅\s+{phase} \(in ", said), said[-4_000:]
        assert re.search(r"Scenarios:\s+[1-9]", said), said[-4_000:]
        seconds = max(int(ends - time.monotonic()), SHORT_RUN_SECONDS)  # chance has what the phases before it left
        ask(server, tmp_path, token, "--phases", "fuzzing", "--max-time", str(seconds), seconds=seconds + 120)
        assert "Traceback" not in server.output
