"""The command `run.py demo`: find the server, fill it, say what to look at, keep it active until Ctrl-C."""

from __future__ import annotations

import asyncio
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass

from config.settings import Settings
from handlers.demo import instance_name
from server.demo._progress import Progress
from server.demo.cast import KING, PASSWORD
from server.demo.client import NO_CODE, DemoClient, DemoFailed, Host, RequestRefused
from server.demo.community import SMALL, Cast, Community
from server.demo.emails import Emails, NoEmail
from server.demo.filling import Filling
from server.demo.prices import NoRecordings, open_markets
from server.demo.state import State
from server.demo.trickle import Trickle
from server.supervisor.gateway_service import address_of
from server.supervisor.instance import Instance
from server.supervisor.terminal import own_terminal


@dataclass(frozen=True, slots=True)
class Options:
    """The command's options: `once` fills and ends, `small` is a community of 16, `seconds` bounds the activity."""

    url: str | None = None
    once: bool = False
    small: bool = False
    seconds: float | None = None


def run(settings: Settings, options: Options) -> int:
    """Run the demo; return 0, also after Ctrl-C, or 1 with the reason on stderr."""
    progress = Progress(sys.stdout)
    with own_terminal():
        try:
            asyncio.run(_run(settings, options, progress))
        except KeyboardInterrupt:
            progress.say("\n  Stopped. The community stays; `run.py demo` goes on with it.")
        except (DemoFailed, NoRecordings, NoEmail, RequestRefused) as error:
            return _fail(progress, [error])
        except ExceptionGroup as group:
            expected, others = group.split((DemoFailed, NoEmail, RequestRefused))
            if others is not None or expected is None:
                raise
            return _fail(progress, _leaves(expected))
    return 0


async def _run(settings: Settings, options: Options, progress: Progress) -> None:
    if settings.is_production:
        raise DemoFailed("ENVIRONMENT is production: there the demo has no business")
    running = None if options.url else Instance(settings.data_dir).url
    markets = await asyncio.to_thread(open_markets)
    url = options.url or running or address_of(settings)
    host = Host(url, Emails(settings.data_dir / "mail"), progress.say)
    try:
        await _find(host, settings)
        progress.say(f"Filling {host.url}")
        if not host.has_addresses:
            progress.say(
                "  All from one address, which may register 5 accounts a minute: this takes a quarter of an hour. "
                "RATE_LIMIT_ENABLED=false at the server's start makes it fast."
            )
        state = State.load(settings.data_dir / "demo.json")
        community = Community(SMALL if options.small else Cast(), host, markets)
        await Filling(community, state, progress).run()
        # For people it is localhost: the name that the server has printed, and the site of its frontend.
        shown = host.url if options.url else host.url.replace("//127.0.0.1:", "//localhost:")
        for line in what_to_see(shown, str(community.accounts[KING].user_id)):
            progress.say(line)
        if not options.once:
            progress.say("\nMoving; Ctrl-C stops.")
            await Trickle(community, state, progress).run(seconds=options.seconds)
    finally:
        await host.close()


async def _find(host: Host, settings: Settings) -> None:
    """Find the server. Raises DemoFailed unless a development server answers that runs on our DATA_DIR."""
    client = DemoClient(host)
    with suppress(RequestRefused):  # 503 while it starts: the next request shows more
        await client.get("/ready")
    try:
        server = await client.get("/api/v1/demo")
    except RequestRefused as error:
        if error.code == NO_CODE:  # a server that refuses so is not ours
            raise DemoFailed(
                f"{host.url} is not a TradeStream server: it answers {error.status}; "
                "`make run` starts one, and PORT or --url names another address"
            ) from None
        reasons = {
            404: f"{host.url} is no development server of this version: there the demo has no business",
            403: f"{host.url} does not take us for its internal network: {error}",
        }
        raise DemoFailed(reasons.get(error.status, str(error))) from None
    if not isinstance(server, dict) or "instance" not in server:
        raise DemoFailed(f"{host.url} is not a TradeStream server: its answer is not ours; PORT or --url names another")
    if server["instance"] != instance_name(str(settings.data_dir.resolve())):
        raise DemoFailed(
            f"the server at {host.url} does not run on {settings.data_dir.resolve()}: its letters cannot be read; "
            "give DATA_DIR (and PORT) as it has them"
        )


def what_to_see(url: str, provider_id: str) -> list[str]:
    """Return the lines that say what to look at, and how to log in."""
    login = shlex.quote(f'{{"email": "cryptoking-42@demo.example.com", "password": "{PASSWORD}"}}')
    return [
        "",
        "Look at",
        f"  {url}/api/docs",
        f"  {url}/api/leaderboards/followers?period=week      also win_rate, return, streak, rising; month, all",
        f"  {url}/api/providers?sort=win_rate",
        f"  {url}/api/providers/{provider_id}",
        f"  {url}/api/signals?categories=equities&min_score=60",
        f"  curl -N {url}/api/signals/stream",
        "",
        f"Log in as {KING}, a provider (everybody has the same password: {PASSWORD})",
        f"  TOKEN=$(curl -s {url}/auth/login -H 'Content-Type: application/json' \\",
        f'    -d {login} | sed \'s/.*"access_token":"\\([^"]*\\)".*/\\1/\')',
        *(
            f'  curl -s {url}{path} -H "Authorization: Bearer $TOKEN"'
            for path in ("/api/referrals", "/api/achievements/me", "/api/achievements/streaks", "/api/social/feed")
        ),
    ]


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, ExceptionGroup) else [each]
    return found


def _fail(progress: Progress, errors: list[Exception]) -> int:
    progress.say()
    for text in dict.fromkeys(map(str, errors)):
        sys.stderr.write(f"demo: {text}\n")
    return 1
