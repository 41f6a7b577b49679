"""Secrets from HashiCorp Vault: the secrets engine KV, version 2, read with a token or an AppRole.

The token, or the AppRole's secret id, comes from a file: something on this machine must be trusted first, and a file can be given
to one account only. What was read is kept in memory and nowhere else; it is read again when the configuration is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hopwatch.bus.connection import secret_in

TIMEOUT_S: Final = 10.0


class VaultError(Exception):
    """The vault cannot be reached, refuses, or does not have what is asked; the message is one line and holds no secret."""


class Vault(BaseModel):
    """The table ``[vault]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(pattern=r"^https?://", description="where it is, https://vault.example:8200")
    path: str = Field(min_length=1, description="the secret's path below the mount, hopwatch/agents/tap-idmz")
    mount: str = Field("secret", min_length=1, description="where the KV engine is mounted")
    namespace: str | None = Field(None, description="the namespace, where there are any")
    ca_file: Path | None = Field(None, description="the authorities that sign the vault's certificate, PEM")
    token_file: Path | None = Field(None, description="the file that holds a token")
    role_id: str | None = Field(None, description="the AppRole, with secret_id_file")
    secret_id_file: Path | None = Field(None, description="the file that holds the AppRole's secret id")

    @model_validator(mode="after")
    def _one_way(self) -> Vault:
        if (self.token_file is None) == (self.role_id is None) or bool(self.role_id) != bool(self.secret_id_file):
            raise ValueError("needs token_file, or role_id and secret_id_file")
        return self

    def secrets(self, names: tuple[str, ...]) -> dict[str, str]:
        """Those of the secret's fields that are asked for and there, at least one.

        Raises:
            VaultError: why there are none.
        """
        found = self.held(names)
        if not found:
            raise VaultError(f"vault {self.address}: {self.mount}/{self.path}: has none of {', '.join(names)}")
        return found

    def held(self, names: tuple[str, ...]) -> dict[str, str]:
        """The same, and none may be there.

        Raises:
            VaultError: the vault cannot be reached or refuses.
        """
        import hvac
        from hvac.exceptions import VaultError as Refused
        from requests.exceptions import RequestException

        client = hvac.Client(
            url=self.address, namespace=self.namespace, verify=str(self.ca_file) if self.ca_file else True, timeout=TIMEOUT_S
        )
        try:
            if self.token_file is not None:
                client.token = _read(self.token_file)
            else:
                assert self.secret_id_file is not None
                client.auth.approle.login(self.role_id, _read(self.secret_id_file))
            answer = client.secrets.kv.v2.read_secret_version(path=self.path, mount_point=self.mount, raise_on_deleted_version=True)
        except Refused as error:
            raise VaultError(f"vault {self.address}: {self.mount}/{self.path}: {type(error).__name__}") from None
        except RequestException as error:
            # Its text may quote the request; its kind says enough.
            raise VaultError(f"vault {self.address}: cannot be reached: {type(error).__name__}") from None
        finally:
            client.adapter.close()
        fields = answer["data"]["data"]
        return {name: fields[name] for name in names if isinstance(fields.get(name), str) and fields[name]}


def _read(path: Path) -> str:
    try:
        return secret_in(path).strip()
    except ValueError as error:
        raise VaultError(str(error)) from None
