"""The errors a user can meet; each says what was asked, what was found, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

#: What stands before the host of a URI; a path has one slash where the URI that it was made of has two.
_CREDENTIALS = re.compile(r"(?<=//)[^/\s]*@|(?<=\w:/)[^/\s:]+:[^/\s]*@")


def without_secrets(text: str) -> str:
    """`text` without user names and passwords in its URIs."""
    return _CREDENTIALS.sub("***@", text)


class HarnessError(Exception):
    """A failure of a run; the command line prints the message alone and exits with `exit_code`.

    Messages quote what was asked for, without the user names and passwords of URIs.
    """

    exit_code = 1

    def __str__(self) -> str:
        return without_secrets(super().__str__())


class InputError(HarnessError):
    """Bad usage or bad input: the caller can mend it; exit code 2."""

    exit_code = 2


class ConfigError(InputError):
    """A YAML file, card or `--set` that does not fit its schema."""


class UnknownNameError(InputError):
    """A name that no registry holds; the message carries the nearest name and the list, of many names the nearest."""

    _LISTED = 30

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
        hint = f" The nearest is '{near[0]}'." if near else ""
        shown = names if len(names) <= self._LISTED else difflib.get_close_matches(name, names, n=5, cutoff=0.0)
        more = f", and {len(names) - len(shown):,} more" if len(names) > len(shown) else ""
        listing = ", ".join(shown) + more if names else "none"
        super().__init__(f"There is no {kind} called '{name}'.{hint} Known: {listing}.")


class PluginError(InputError):
    """A plug-in that cannot be imported or that claims a name already taken."""


class ManifestError(InputError):
    """A corpus manifest that breaks the format; the message names file and line."""


class CorpusError(InputError):
    """A corpus or split that is not there or not laid out as its distribution is."""


class AudioError(InputError):
    """An audio file that cannot be used; the message names the file."""


class UnitSystemError(InputError):
    """Units of one extractor and codebook given to a model of another."""


class CheckpointError(InputError):
    """A checkpoint that is absent, altered, in a refused format or of weights that are not sound."""


class UsageError(InputError):
    """A command that was called with options or arguments that do not go together."""


class OptionError(InputError):
    """Options of a task, recipe or metric that contradict each other or lie outside their range."""


class SegmentError(InputError):
    """A segment or prompt that is malformed, or of a modality that the model does not know."""


class TokenizerError(InputError):
    """A tokenizer or vocabulary that cannot be made of the data, or does not cover what it is given."""


class SampleError(InputError):
    """Samples that a statistic or a metric is not defined for: empty, of unequal lengths, outside their range."""


class JoinError(InputError):
    """References and predictions whose items do not match one to one."""


class FormatError(InputError):
    """A file of references, predictions or outputs whose lines are not what they should be."""


class ResultsError(InputError):
    """A results folder that is absent, incomplete or would hold what JSON does not have."""


class ComparisonError(InputError):
    """Runs that cannot be compared, or a metric or baseline that they do not have."""


class DeviceError(InputError):
    """A device that this machine does not have."""


class TrainingError(HarnessError):
    """Training that cannot go on: it diverged, or another process trains in the same folder."""


class SweepError(InputError):
    """A sweep that cannot be read, started or analyzed as asked."""


class OutOfMemoryError(HarnessError):
    """Memory that does not suffice for the smallest batch."""


class TrialError(HarnessError):
    """Trials of a sweep that failed or were lost, or workers and jobs that were to run them."""


class DatabaseError(HarnessError):
    """A sweep's database that cannot be opened or does not respond."""


class TaskError(HarnessError):
    """A task that could not score enough of its items."""


class StaleWarning(UserWarning):
    """What is continued was begun by other code."""


class DamageWarning(UserWarning):
    """A cache was damaged: it was set aside, and what it held is computed anew."""
