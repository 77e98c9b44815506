"""How well one notifier delivers, beside a bare loop of aiohttp that posts the same and asks no database."""
