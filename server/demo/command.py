"""The command `run.py demo`: find the server, fill it, say what to look at, keep it active until Ctrl-C."""

from __future__ import annotations

import asyncio
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass

from config.settings import Settings
from handlers.demo import instance_name
from server.demo import DemoFailed
from server.demo.cast import KING, PASSWORD, SMALL, Cast
from server.demo.client import FASTER, NO_CODE, DemoClient, Host, RequestRefused, say
from server.demo.community import Community
from server.demo.emails import Emails
from server.demo.filling import Filling
from server.demo.markets import open_markets
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
    code = 0
    with own_terminal():
        try:
            asyncio.run(_run(settings, options))
        except* KeyboardInterrupt:
            say("\n  Stopped. The community stays; `run.py demo` goes on with it.")
        except* DemoFailed as group:
            code = 1
            for text in dict.fromkeys(map(str, _leaves(group))):
                sys.stderr.write(f"demo: {text}\n")
    return code


async def _run(settings: Settings, options: Options) -> None:
    if settings.is_production:
        raise DemoFailed("ENVIRONMENT is production: there the demo has no business")
    running = None if options.url else Instance(settings.data_dir).url
    path = settings.data_dir / "demo.json"
    state = State.load(path)
    markets = await asyncio.to_thread(open_markets, state.anchor)
    host = Host(options.url or running or address_of(settings), Emails(settings.data_dir / "mail"))
    try:
        await _find(host, settings)
        say(f"Filling {host.url}")
        if not host.has_addresses:
            say("  All from one address, which may register 5 accounts a minute: this takes a quarter of an hour.")
            say(f"  {FASTER}")
        community = Community(SMALL if options.small else Cast(), host, markets, state, path)
        await Filling(community).run()
        # For people it is localhost: the name that the server has printed, and the site of its frontend.
        shown = host.url if options.url else host.url.replace("//127.0.0.1:", "//localhost:")
        say(what_to_see(shown, str(community.accounts[KING].user_id)))
        if not options.once:
            say("\nMoving; Ctrl-C stops.")
            await Trickle(community).run(seconds=options.seconds)
    finally:
        await host.close()


async def _find(host: Host, settings: Settings) -> None:
    """Find the server. Raises DemoFailed unless a development server answers that runs on our DATA_DIR."""
    client = DemoClient(host)
    with suppress(RequestRefused):  # 503 while it starts: the next request shows more
        await client.get("/ready")
    other = f"{host.url} is not a TradeStream server"
    try:
        server = await client.get("/api/v1/demo")
    except RequestRefused as error:
        reasons = {
            404: f"{host.url} is no development server of this version: there the demo has no business",
            403: f"{host.url} does not take us for its internal network: {error}",
        }
        is_other = error.code == NO_CODE  # a server that refuses so is not ours
        advice = f"{other}: it answers {error.status}; `make run` starts one, and PORT or --url names another address"
        raise DemoFailed(advice if is_other else reasons.get(error.status, str(error))) from None
    if "instance" not in (server or ()):
        raise DemoFailed(f"{other}: its answer is not ours; PORT or --url names another")
    if server["instance"] != instance_name(str(settings.data_dir.resolve())):
        raise DemoFailed(
            f"the server at {host.url} does not run on {settings.data_dir.resolve()}: its e-mails cannot be read; "
            "give DATA_DIR (and PORT) as it has them"
        )


def what_to_see(url: str, provider_id: str) -> str:
    """Return the lines that say what to look at, and how to log in."""
    login = shlex.quote(f'{{"email": "cryptoking-42@demo.example.com", "password": "{PASSWORD}"}}')
    paths = "/api/referrals", "/api/achievements/me", "/api/achievements/streaks", "/api/social/feed"
    mine = "\n".join(f'  curl -s {url}{path} -H "Authorization: Bearer $TOKEN"' for path in paths)
    return f"""
Look at
  {url}/api/docs
  {url}/api/leaderboards/return                     what providers say; also followers, win_rate, streak, rising
  {url}/api/leaderboards/skill                      what the market says of the same providers; also steady
  {url}/api/providers?sort=win_rate
  {url}/api/providers/{provider_id}
  {url}/api/providers/{provider_id}/equity
  {url}/api/signals?categories=equities&min_score=60
  curl -N {url}/api/signals/stream

Log in as {KING}, a provider (everybody has the same password: {PASSWORD})
  TOKEN=$(curl -s {url}/auth/login -H 'Content-Type: application/json' \\
    -d {login} | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')
{mine}"""


def _leaves(group: BaseExceptionGroup[DemoFailed]) -> list[DemoFailed]:
    parts = ([each] if isinstance(each, DemoFailed) else _leaves(each) for each in group.exceptions)
    return [leaf for part in parts for leaf in part]
