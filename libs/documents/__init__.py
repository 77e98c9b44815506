"""The documents of Darkroom: their shapes, states and indexes, and every query on them."""

from libs.documents.connection import connected
from libs.documents.deliveries import Attempt, Deliveries, Delivery, Ending, NewDelivery
from libs.documents.documents import Documents
from libs.documents.endpoint import EVENTS, Disabled, Endpoint, EndpointChanges, Event, NewEndpoint, Reason, Secret
from libs.documents.endpoints import Endpoints, TooManyEndpointsError, TooManySecretsError
from libs.documents.images import HeldImage, Images, NewImage
from libs.documents.loading import NewRequest, UploadInterruptedError
from libs.documents.outcomes import Failed, Finished, Outcome
from libs.documents.outputs import Output
from libs.documents.postponed import Postponed
from libs.documents.progress import Counts, Progress
from libs.documents.requests import AlreadyFinalError, Request, Requests
from libs.documents.rows import ImageFailure, Row, RowImage

__all__ = [
    "EVENTS",
    "AlreadyFinalError",
    "Attempt",
    "Counts",
    "Deliveries",
    "Delivery",
    "Disabled",
    "Documents",
    "Ending",
    "Endpoint",
    "EndpointChanges",
    "Endpoints",
    "Event",
    "Failed",
    "Finished",
    "HeldImage",
    "ImageFailure",
    "Images",
    "NewDelivery",
    "NewEndpoint",
    "NewImage",
    "NewRequest",
    "Outcome",
    "Output",
    "Postponed",
    "Progress",
    "Reason",
    "Request",
    "Requests",
    "Row",
    "RowImage",
    "Secret",
    "TooManyEndpointsError",
    "TooManySecretsError",
    "UploadInterruptedError",
    "connected",
]
