"""The documents of Darkroom: their shapes, states and indexes, and every query on them."""

from libs.documents.addressees import Addressee, Addressees
from libs.documents.clearing import Clearing, PutOff
from libs.documents.connection import connected
from libs.documents.deliveries import Deliveries
from libs.documents.delivery import Answer, Attempt, Delivery, Ending, NewDelivery, endpoint_of
from libs.documents.delivery_log import (
    DeliveryFilter,
    DeliveryLog,
    DeliveryPage,
    Place,
    Redelivery,
    RedeliveryChunk,
)
from libs.documents.documents import Documents
from libs.documents.endpoint import (
    EVENTS,
    Bar,
    Disabled,
    Endpoint,
    EndpointChanges,
    Event,
    NewEndpoint,
    Reason,
    Secret,
    bar_of,
)
from libs.documents.endpoints import Endpoints, TooManyEndpointsError, TooManySecretsError
from libs.documents.failures import FailedImage, Failures, Telling
from libs.documents.images import HeldImage, Images, NewImage
from libs.documents.loading import NewRequest, UploadInterruptedError
from libs.documents.notices import DISABLED, FAILING, Notices
from libs.documents.outcomes import Failed, Finished, Outcome
from libs.documents.outputs import Output
from libs.documents.postponed import Postponed
from libs.documents.progress import Counts, Progress
from libs.documents.requests import AlreadyFinalError, Request, Requests
from libs.documents.rows import ImageFailure, Row, RowImage

__all__ = [
    "DISABLED",
    "EVENTS",
    "FAILING",
    "Addressee",
    "Addressees",
    "AlreadyFinalError",
    "Answer",
    "Attempt",
    "Bar",
    "Clearing",
    "Counts",
    "Deliveries",
    "Delivery",
    "DeliveryFilter",
    "DeliveryLog",
    "DeliveryPage",
    "Disabled",
    "Documents",
    "Ending",
    "Endpoint",
    "EndpointChanges",
    "Endpoints",
    "Event",
    "Failed",
    "FailedImage",
    "Failures",
    "Finished",
    "HeldImage",
    "ImageFailure",
    "Images",
    "NewDelivery",
    "NewEndpoint",
    "NewImage",
    "NewRequest",
    "Notices",
    "Outcome",
    "Output",
    "Place",
    "Postponed",
    "Progress",
    "PutOff",
    "Reason",
    "Redelivery",
    "RedeliveryChunk",
    "Request",
    "Requests",
    "Row",
    "RowImage",
    "Secret",
    "Telling",
    "TooManyEndpointsError",
    "TooManySecretsError",
    "UploadInterruptedError",
    "bar_of",
    "connected",
    "endpoint_of",
]
