"""Settings of one process, from the environment or `.env` (architecture section 8).

What the customer connects to what is in the connections file, read by `integration.config`.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything read from `COURSEWIRE_*` variables; secrets never show in repr or logs."""

    model_config = SettingsConfigDict(env_prefix="COURSEWIRE_", env_file=".env", extra="ignore", env_ignore_empty=True)

    config: Path = Field(Path("coursewire.yaml"), description="The connections file.")
    database_url: SecretStr | None = Field(None, description="PostgreSQL; unset: the embedded server.")
    broker_url: SecretStr | None = Field(None, description="Redis protocol or AMQP; unset: embedded Valkey.")
    budget_url: SecretStr | None = Field(
        None, description="Redis that counts calls to other systems; unset: the broker, where it speaks Redis."
    )
    master_keys: SecretStr | None = Field(
        None, description="Sealing keys, id:base64 of 32 bytes, comma separated, newest first."
    )
    log_format: Literal["json", "console"] = Field("json", description="How log lines look.")
    host: str = Field("127.0.0.1", description="Address the webhook endpoint listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port the webhook endpoint listens on.")
    data_dir: Path = Field(Path(".coursewire"), description="Where the embedded servers keep their data.")
    flower_host: str = Field("127.0.0.1", description="Address Flower listens on.")
    flower_port: int = Field(5555, ge=0, le=65535, description="Port Flower listens on.")
    flower_basic_auth: SecretStr | None = Field(None, description="user:password that Flower asks for.")
    worker_concurrency: int = Field(16, ge=1, le=64, description="Threads of one worker process.")
