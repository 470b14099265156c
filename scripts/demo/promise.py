"""One promise of the demo, and how it is put into words."""

from dataclasses import dataclass

__all__ = ["Promise", "called"]


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise: the sentence a person reads, and what broke it; nothing broke it when that is empty."""

    text: str
    broken_by: tuple[str, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether nothing broke it."""
        return not self.broken_by


def called(number: int, name: str) -> str:
    """Say how many calls of a kind there were."""
    return f"{number or 'no'} {name}{'' if number == 1 else 's'}"
