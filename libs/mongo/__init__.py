"""MongoDB: the connection, transactions, and a replica set of our own. The one module that imports motor."""

from libs.mongo.client import (
    AWAIT_SECONDS,
    BY_ID,
    Collection,
    Document,
    Mongo,
    OtherReplicaSetError,
    Session,
    StandaloneServerError,
)
from libs.mongo.embedded import EmbeddedMongo, MongodFailedError
from libs.mongo.encoding import Encoded, encoded
from libs.mongo.mongod import MongodNotFoundError
from libs.mongo.patience import patiently
from libs.mongo.transactions import WriteConflictError

__all__ = [
    "AWAIT_SECONDS",
    "BY_ID",
    "Collection",
    "Document",
    "EmbeddedMongo",
    "Encoded",
    "Mongo",
    "MongodFailedError",
    "MongodNotFoundError",
    "OtherReplicaSetError",
    "Session",
    "StandaloneServerError",
    "WriteConflictError",
    "encoded",
    "patiently",
]
