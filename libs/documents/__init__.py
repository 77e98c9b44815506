"""The documents of Darkroom: their shapes, states and indexes, and every query on them."""

from libs.documents.connection import connected
from libs.documents.deliveries import Attempt, Deliveries, Delivery, NewDelivery
from libs.documents.documents import Documents
from libs.documents.images import Failed, HeldImage, ImageFailure, Images, NewImage, Outcome, Output, Row, RowImage
from libs.documents.progress import Counts, Progress
from libs.documents.requests import (
    AlreadyFinalError,
    NewRequest,
    Request,
    Requests,
    UploadInterruptedError,
)

__all__ = [
    "AlreadyFinalError",
    "Attempt",
    "Counts",
    "Deliveries",
    "Delivery",
    "Documents",
    "Failed",
    "HeldImage",
    "ImageFailure",
    "Images",
    "NewDelivery",
    "NewImage",
    "NewRequest",
    "Outcome",
    "Output",
    "Progress",
    "Request",
    "Requests",
    "Row",
    "RowImage",
    "UploadInterruptedError",
    "connected",
]
