"""Which folder of which SFTP server a connection means, and who we are there."""

import io
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import paramiko

from integration.config import ConnectionConfig
from integration.errors import ConfigError, ConnectionBroken, Reason

_KINDS: tuple[type[paramiko.PKey], ...] = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


class Address(NamedTuple):
    """A folder of a server; `user` as the address names it, if it does."""

    host: str
    port: int
    folder: str
    user: str | None


class Who(NamedTuple):
    """Who we are there: by key, else by password."""

    user: str
    key: paramiko.PKey | None
    password: str | None


def address_of(config: ConnectionConfig) -> Address:
    """Return what a connection's base_url names. Raises ConfigError."""
    url = urlsplit(config.base_url or "")
    if url.scheme != "sftp" or not url.hostname:
        raise ConfigError(f"connections.{config.name}.base_url: hr_files needs sftp://host/folder")
    if not {"key", "password"} & config.credentials.keys():
        raise ConfigError(f"connections.{config.name}.credentials: name key: {{file: ...}}, the private key")
    if not url.username and "user" not in config.credentials:
        raise ConfigError(f"connections.{config.name}.base_url: name the user, as in sftp://user@host/folder")
    return Address(url.hostname, url.port or 22, unquote(url.path) or "/", unquote(url.username or "") or None)


def credentials_of(config: ConnectionConfig, address: Address) -> Who:
    """Return who we are, read anew each time. Raises ConnectionBroken where that cannot be read."""
    try:
        said = {name: ref.read().get_secret_value() for name, ref in config.credentials.items()}
    except (ConfigError, UnicodeDecodeError) as error:
        what = str(error) if isinstance(error, ConfigError) else "what a credential points to is no text"
        raise ConnectionBroken(Reason.CREDENTIALS_REFUSED, what) from None
    key = _key(said["key"], said.get("passphrase")) if "key" in said else None
    return Who(said.get("user") or address.user or "", key, said.get("password"))


def _key(text: str, passphrase: str | None) -> paramiko.PKey:
    """Return a private key, whichever kind it is. Raises ConnectionBroken; the text never shows."""
    for kind in _KINDS:
        try:
            return kind.from_private_key(io.StringIO(text + "\n"), passphrase)
        except paramiko.PasswordRequiredException:
            advice = "the private key is locked; name its passphrase as credentials.passphrase"
            raise ConnectionBroken(Reason.CREDENTIALS_REFUSED, advice) from None
        except (paramiko.SSHException, ValueError, IndexError):
            continue
    advice = "credentials.key points to no private key (ed25519, ECDSA or RSA), or credentials.passphrase is another's"
    raise ConnectionBroken(Reason.CREDENTIALS_REFUSED, advice)
