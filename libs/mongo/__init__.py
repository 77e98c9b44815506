"""MongoDB: the connection, transactions, and a replica set of our own. The one module that imports motor."""

from libs.mongo.client import (
    AWAIT_SECONDS,
    Collection,
    Document,
    Mongo,
    OtherReplicaSetError,
    Session,
    StandaloneServerError,
    WriteConflictError,
)
from libs.mongo.embedded import EmbeddedMongo, MongodFailedError
from libs.mongo.mongod import MongodNotFoundError
from libs.mongo.patience import patiently

__all__ = [
    "AWAIT_SECONDS",
    "Collection",
    "Document",
    "EmbeddedMongo",
    "Mongo",
    "MongodFailedError",
    "MongodNotFoundError",
    "OtherReplicaSetError",
    "Session",
    "StandaloneServerError",
    "WriteConflictError",
    "patiently",
]
