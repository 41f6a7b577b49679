"""What the console is told: the table ``[console]`` of the settings file, flags of the same names stronger."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from dashboards.console.access import Role

ADDRESS: Final = "127.0.0.1:8710"


class ConsoleSettings(BaseModel):
    """The table ``[console]``."""

    model_config = ConfigDict(extra="forbid")

    declarations: list[Path] = Field([], description="a declaration for each plant; by default the one that `watch` judges by")
    address: str = Field(ADDRESS, description="where it listens")
    names: list[str] = Field([], description="what browsers call it, besides its address")
    tls_cert: Path | None = Field(None, description="certificate chain, PEM")
    tls_key: Path | None = Field(None, description="its private key, PEM")
    users: Path | None = Field(None, description="the file of users")
    proxy: list[str] = Field([], description="addresses or networks of a reverse proxy that says who it is")
    roles: dict[str, Role] = Field({}, description="the role of each group that a proxy or an identity provider names")
    local_role: Role = Field("analyst", description="the role of whoever reaches 127.0.0.1, where nobody is asked")
    oidc_issuer: str | None = Field(None, description="the identity provider's issuer (OpenID Connect)")
    oidc_client_id: str = Field("hopwatch", description="what the provider calls this console")
    oidc_client_secret_file: Path | None = Field(None, description="the file with the client secret, readable by its owner only")
    oidc_back: str | None = Field(None, description="this console's address as the provider knows it, https://console.plant.example")
    oidc_claim: str = Field("groups", description="the claim that holds the groups")
    oidc_name_claim: str = Field("preferred_username", description="the claim that holds the name")
    oidc_title: str = Field("", description="what the sign-in page calls the provider")
    oidc_ca: Path | None = Field(None, description="the authority of the provider's certificate, PEM")
    idle_minutes: float = Field(30, gt=0, le=1440, description="after so long without use a session ends")
    absolute_hours: float = Field(12, gt=0, le=168, description="after so long a session ends in any case")
