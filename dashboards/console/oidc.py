"""People known to an identity provider: OpenID Connect's code flow, by Authlib, with PKCE, state and nonce.

The provider says who it is and of which groups; which role a group has is said here. The ID token is checked by Authlib: signature by
the provider's published keys, issuer, audience, time and nonce (OpenID Connect Core 1.0, 3.1.3.7). No token is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from authlib.integrations.base_client import OAuthError
from authlib.integrations.starlette_client import OAuth
from httpx import HTTPError
from joserfc.errors import JoseError
from starlette.requests import Request
from starlette.responses import Response

from dashboards.console.access import NAME, Person, Role
from dashboards.console.entrance import strongest

_WELL_KNOWN: Final = "/.well-known/openid-configuration"


class Provider:
    """One identity provider; ``back`` is this console's address as the provider knows it, without a path."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str,
        roles: Mapping[str, Role],
        back: str,
        *,
        claim: str = "groups",
        name_claim: str = "preferred_username",
        title: str = "",
        ca: str | None = None,
    ) -> None:
        self.title = title or issuer
        self._roles, self._claim, self._name_claim = roles, claim, name_claim
        self._back = back.rstrip("/") + "/login/back"
        self._issuer = issuer
        clients = OAuth()
        arguments: dict[str, Any] = {"scope": "openid profile", "code_challenge_method": "S256"}  # Any: arguments of httpx's client.
        if ca is not None:
            arguments["verify"] = ca
        clients.register(
            "provider", client_id=client_id, client_secret=client_secret, server_metadata_url=issuer.rstrip("/") + _WELL_KNOWN,
            client_kwargs=arguments,
        )  # fmt: skip
        self._client: Any = clients.create_client("provider")  # Any: Authlib says no types.

    async def ask(self, request: Request, remembered: dict[str, Any]) -> Response:  # Any: as Authlib remembers it.
        """Send the browser to the provider; what has to be known when it comes back is ``remembered``."""
        request.scope["session"] = remembered
        try:
            sent: Response = await self._client.authorize_redirect(request, self._back)
        except (OAuthError, HTTPError, JoseError, ValueError, KeyError) as error:
            return Response(f"the identity provider does not answer as one ({type(error).__name__})\n", 502, media_type="text/plain")
        return sent

    async def person(self, request: Request, remembered: dict[str, Any]) -> tuple[Person | None, str]:  # Any: as above.
        """Who came back, or None and why not."""
        request.scope["session"] = remembered
        try:
            token = await self._client.authorize_access_token(request)
        except (OAuthError, HTTPError, JoseError, ValueError, KeyError) as error:
            return None, type(error).__name__
        said = token.get("userinfo") or {}
        if said.get("iss") != self._issuer:
            return None, "another issuer"
        name = said.get(self._name_claim) or said.get("sub")
        groups = said.get(self._claim)
        held = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        role = strongest(self._roles, [group for group in held if isinstance(group, str)])
        if not isinstance(name, str) or not NAME.fullmatch(name):
            return None, "no name that will do"
        if role is None:
            return None, f"{name} has no role"
        return Person(name, role, "provider"), ""
