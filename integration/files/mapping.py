"""A mapping file: YAML that says what the columns of a file mean."""

from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from integration.errors import ConfigError
from integration.yaml_document import YamlDocument

_LARGEST = 1_048_576


M = TypeVar("M", bound=BaseModel)


def load(path: Path, model: type[M]) -> M:
    """Return a mapping read from YAML.

    Raises ConfigError with one line for each mistake: file, line, place, and what is wrong.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}. Name the file that says what the columns mean.") from None
    if len(raw) > _LARGEST:
        raise ConfigError(f"{path}: the file is larger than 1 MiB; mappings are not.")
    try:
        document = YamlDocument(path, raw.decode())
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: this is not text in UTF-8; save it as UTF-8.") from None
    if not isinstance(document.data, dict):
        raise ConfigError(f"{path}:1: expected keys and values, such as file:, times: and fields:")
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise ConfigError("\n".join(document.sentences(error))) from None


def mapping_hash(mapping: BaseModel) -> bytes:
    """Return 32 bytes over what a mapping says; comments and the order of keys say nothing."""
    return sha256(mapping.model_dump_json(exclude_unset=True).encode()).digest()
