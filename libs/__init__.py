"""Libraries of Darkroom: they know nothing of the services that use them."""
