"""Resolvers that answer the egress tests."""

import socket

from aiohttp.abc import AbstractResolver, ResolveResult


def answer(name: str, address: str, port: int) -> ResolveResult:
    """One address, as aiohttp's resolvers report it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=name, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)


class ScriptedResolver(AbstractResolver):
    """Answers each lookup with the next of its answers, and the last one from then on."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 (part of the interface)
    ) -> list[ResolveResult]:
        """The next answer."""
        self.asked.append(host)
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [answer(host, address, port) for address in addresses]

    async def close(self) -> None:
        """Holds nothing."""
