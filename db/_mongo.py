"""Access MongoDB: one collection of documents by UUID, through motor, with the driver's errors as ours.

Motor is in maintenance, its successor is pymongo's own asynchronous client: nothing else in the project imports either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import UpdateOne, WriteConcern
from pymongo.errors import BulkWriteError, PyMongoError

from config.masking import redact
from schemas.errors import ArchiveUnavailable

DATABASE = "tradestream"  # unless the URL names one
CONNECT_MS = 2_000
OPERATION_MS = 10_000  # for one whole operation, retries and the wait for a server included

# Errors which mean that this document cannot be stored, not that the server is in trouble.
_UNFIT = (BSONError, OverflowError)


class Collection:
    """Documents whose `_id` is a UUID. Each method raises ArchiveUnavailable, within OPERATION_MS."""

    def __init__(self, url: str, name: str) -> None:
        """Create the collection's client; it connects when first used."""
        self._client: Any = AsyncIOMotorClient(
            url,
            appname="tradestream",
            serverSelectionTimeoutMS=CONNECT_MS,
            connectTimeoutMS=CONNECT_MS,
            timeoutMS=OPERATION_MS,
            maxPoolSize=4,
            uuidRepresentation="standard",
            tz_aware=True,
        )
        # Acknowledged documents are deleted in Postgres: they must be on the disks of a majority.
        self._collection: Any = self._client.get_default_database(DATABASE).get_collection(
            name, write_concern=WriteConcern(w="majority", j=True)
        )

    async def merge(self, documents: Sequence[dict[str, Any]], *, items: str, most: int) -> dict[UUID, str]:
        """Create or complete documents; return the reasons for those that were refused, by `_id`.

        Fields are set, but the list named `items` is united with the stored one, by the items' `id`, so that repeating
        changes nothing. Its last `most` items are kept.
        """
        updates = [_merging(document, items, most) for document in documents]
        try:
            await self._collection.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            return _refused(error, documents)
        except _UNFIT as error:
            if len(documents) == 1:
                return {documents[0]["_id"]: redact(f"{type(error).__name__}: {error}")}
            refused: dict[UUID, str] = {}
            for document in documents:
                refused |= await self.merge([document], items=items, most=most)
            return refused
        except PyMongoError as error:
            raise _unavailable(error) from error
        return {}

    async def find(self, document_id: UUID) -> dict[str, Any] | None:
        """Return one document, or None."""
        try:
            document: dict[str, Any] | None = await self._collection.find_one({"_id": document_id})
        except PyMongoError as error:
            raise _unavailable(error) from error
        return document

    async def delete_before(self, document_id: UUID, limit: int) -> int:
        """Delete up to `limit` documents with a smaller `_id`, the smallest first; return how many."""
        try:
            cursor = self._collection.find({"_id": {"$lt": document_id}}, {"_id": True}).sort("_id", 1).limit(limit)
            old = [each["_id"] for each in await cursor.to_list(limit)]
            if old:
                await self._collection.delete_many({"_id": {"$in": old}})
        except PyMongoError as error:
            raise _unavailable(error) from error
        return len(old)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _merging(document: dict[str, Any], items: str, most: int) -> UpdateOne:
    new = document[items]
    others = {
        "$filter": {
            "input": {"$ifNull": [f"${items}", []]},
            "cond": {"$not": [{"$in": ["$$this.id", [each["id"] for each in new]]}]},
        }
    }
    united = {"$slice": [{"$concatArrays": [others, {"$literal": new}]}, -most]}
    # $literal: in this form of update a text that begins with a dollar sign would be an expression.
    fields = {name: {"$literal": value} for name, value in document.items() if name not in {"_id", items}}
    return UpdateOne({"_id": document["_id"]}, [{"$set": {**fields, items: united}}], upsert=True)


def _refused(error: BulkWriteError, documents: Sequence[dict[str, Any]]) -> dict[UUID, str]:
    details = error.details
    if details.get("writeConcernErrors"):
        raise _unavailable(error) from error
    return {documents[each["index"]]["_id"]: str(each.get("errmsg")) for each in details["writeErrors"]}


def _unavailable(error: PyMongoError) -> ArchiveUnavailable:
    # Truncated: the driver describes its whole view of the topology.
    return ArchiveUnavailable(
        f"The archive's MongoDB is unavailable: {type(error).__name__}: {redact(str(error))[:200]}"
    )
