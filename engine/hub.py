"""Downloads a model from a Hugging Face hub: pinned to a commit, safetensors only, with retries.

The hub is `HF_ENDPOINT`'s, the cache is the hub library's own, and so is a
person's token. Nothing that could hold code is ever downloaded. It does not
know what the files mean beyond their names, except config.json, which is read
first so that a model that would be refused is refused before its weights come.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from engine import catalogue, errors, weights
from engine.types import Progress

#: Seconds to wait before each further try after a passing fault.
RETRY_DELAYS = (0.5, 1.0, 2.0)
#: Answers that may be different a moment later: timeout, too many requests, server faults.
RETRY_STATUSES = (408, 429, 500, 502, 503, 504)
#: The only files downloaded beside the weights; configuration, tokenizer, model card. Weights come last.
SMALL_FILES = (
    "config.json", "generation_config.json", "README.md", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
    "tokenizer.model", "sentencepiece.bpe.model", "source.spm", "target.spm", "chat_template.jinja",
)
REQUEST_TIMEOUT = 20.0
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NEXT_OFFLINE = "Check the network, or put the model's files into a folder of the models folder."

T = TypeVar("T")


def download(
    repo_id: str, *, revision: str = "", on_progress: Callable[[Progress], None] = lambda progress: None,
    endpoint: str | None = None, cache: Path | None = None, sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Bring a hub model onto this machine.

    Args:
        repo_id: `org/name`, already validated.
        revision: branch, tag or commit; "" for the current main, which is pinned to its commit.
        on_progress: told "downloading" with bytes done and in total.
        endpoint: the hub's address; by default HF_ENDPOINT's, else the public hub.
        cache: download cache; by default the hub library's own.
        sleep: waits between tries.

    Returns:
        The snapshot directory, whose name is the 40-digit commit.

    Raises:
        errors.ModelNotFound: no such repository or revision.
        errors.ModelRefused: gated, without safetensors, or of a kind that cannot be shown.
        errors.HubUnavailable: no answer, or faults that lasted through all tries.
        errors.OverBudget: the disk has no room for it.
    """
    if _COMMIT.fullmatch(revision):
        cached = cached_snapshot(repo_id, revision, cache=cache)
        if cached is not None:
            return cached
    session = _Session(repo_id, endpoint or os.environ.get("HF_ENDPOINT") or None, cache, sleep)
    commit, sizes = session.listing(revision)
    _check_listing(repo_id, sizes)
    small = [name for name in SMALL_FILES if name in sizes]
    first = session.file("config.json", commit, _ignore)
    folder = first.parent
    _check_config(folder)
    if weights.SINGLE_FILE in sizes:
        heavy = [weights.SINGLE_FILE]
    else:
        heavy = list(weights.shard_names(session.file(weights.INDEX_FILE, commit, _ignore)))
    total = sum(sizes.get(name, 0) for name in (*small, *heavy))
    _check_disk(folder, total)
    done = 0
    for name in (*small, *heavy):
        session.file(name, commit, lambda count, before=done: on_progress(
            Progress("downloading", done=min(before + count, total), total=total)))
        done += sizes.get(name, 0)
        on_progress(Progress("downloading", done=done, total=total))
    return folder


def config_folder(
    repo_id: str, *, revision: str = "", endpoint: str | None = None, cache: Path | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """The snapshot directory with a hub model's config.json, which alone is downloaded. Arguments as `download`.

    Raises:
        errors.ModelNotFound: no such repository or revision.
        errors.ModelRefused: gated, or without a config.json (code "hub_no_config").
        errors.HubUnavailable: no answer, or faults that lasted through all tries.
    """
    session = _Session(repo_id, endpoint or os.environ.get("HF_ENDPOINT") or None, cache, sleep)
    commit, sizes = session.listing(revision)
    _check_has_config(repo_id, sizes)
    return session.file("config.json", commit, _ignore).parent


def cached_snapshot(repo_id: str, commit: str, *, cache: Path | None = None) -> Path | None:
    """The directory of a commit that is wholly in the cache, else None. Asks nobody."""
    import huggingface_hub

    config = huggingface_hub.try_to_load_from_cache(repo_id, "config.json", cache_dir=cache, revision=commit)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    try:
        weights.headers(folder)
    except errors.ModelRefused:  # weights come last, so a directory with whole weights is whole
        return None
    return folder


def cached_commits(repo_id: str, *, cache: Path | None = None) -> tuple[str, ...]:
    """The commits of a repository that are wholly in the cache, oldest download first."""
    from huggingface_hub import constants, file_download

    root = Path(cache or constants.HF_HUB_CACHE) / file_download.repo_folder_name(repo_id=repo_id, repo_type="model")
    paths = [path for path in root.glob("snapshots/*") if _COMMIT.fullmatch(path.name)]
    names = [path.name for path in sorted(paths, key=lambda path: path.stat().st_mtime)]
    return tuple(name for name in names if cached_snapshot(repo_id, name, cache=cache) is not None)


def _ignore(count: int) -> None:
    """Progress of a file too small to tell about."""


def _check_has_config(repo_id: str, sizes: dict[str, int]) -> None:
    if "config.json" not in sizes:
        raise errors.ModelRefused(
            "a transformers model with a config.json", got=f"{repo_id}, which has none",
            next_step="Choose a repository that holds a transformers model.", code="hub_no_config", repo=repo_id,
        )


def _check_listing(repo_id: str, sizes: dict[str, int]) -> None:
    _check_has_config(repo_id, sizes)
    if weights.SINGLE_FILE not in sizes and weights.INDEX_FILE not in sizes:
        unsafe = sorted(name for name in sizes if name.endswith(weights.UNSAFE_SUFFIXES))
        raise errors.ModelRefused(
            "weights as safetensors", got=f"{repo_id} with {', '.join(unsafe[:3]) or 'no weights'}",
            next_step="Choose a repository with safetensors; other formats can run code when they are opened.",
            code="weights_pickle" if unsafe else "weights_missing", files=", ".join(unsafe[:3]),
        )


def _check_config(folder: Path) -> None:
    from engine import loading

    loading.check_config(catalogue.read_config(folder))


def _check_disk(folder: Path, total: int) -> None:
    free = shutil.disk_usage(folder).free
    if total > free:
        raise errors.OverBudget(
            f"room for {total / 2**20:,.0f} MiB on the disk of the download cache", got=f"{free / 2**20:,.0f} MiB free",
            next_step="Free some disk space, or choose a smaller model.", code="disk_full",
            needed_bytes=total, free_bytes=free,
        )


class _Session:
    """The requests of one download, each with retries and plain errors."""

    def __init__(self, repo_id: str, endpoint: str | None, cache: Path | None, sleep: Callable[[float], None]) -> None:
        self._repo_id = repo_id
        self._endpoint = endpoint
        self._cache = cache
        self._sleep = sleep

    def listing(self, revision: str) -> tuple[str, dict[str, int]]:
        """(commit, bytes by file name) of the repository at `revision`."""
        import huggingface_hub

        api = huggingface_hub.HfApi(endpoint=self._endpoint)
        info = self._try(lambda: api.model_info(
            self._repo_id, revision=revision or None, files_metadata=True, timeout=REQUEST_TIMEOUT))
        if not info.sha or not _COMMIT.fullmatch(info.sha):
            raise errors.HubUnavailable(
                "an answer from the model hub", got=f"one that names no commit of {self._repo_id}",
                next_step=_NEXT_OFFLINE, code="hub_no_commit", repo=self._repo_id,
            )
        return info.sha, {entry.rfilename: entry.size or 0 for entry in info.siblings or []}

    def file(self, name: str, commit: str, on_bytes: Callable[[int], None]) -> Path:
        """The local path of one file at `commit`, downloaded if need be; `on_bytes` hears the bytes so far."""
        import huggingface_hub

        def attempt() -> str:
            return huggingface_hub.hf_hub_download(
                self._repo_id, name, revision=commit, endpoint=self._endpoint, cache_dir=self._cache,
                tqdm_class=_meter(on_bytes), etag_timeout=REQUEST_TIMEOUT,
            )

        return Path(self._try(attempt))

    def _try(self, request: Callable[[], T]) -> T:
        for delay in (*RETRY_DELAYS, None):
            try:
                return request()
            except _network_errors() as error:
                if delay is None or not _passing(error):
                    raise self._plain(error) from error
                self._sleep(delay)
        raise AssertionError("the last try returns or raises")

    def _plain(self, error: Exception) -> errors.EngineError:
        """What a hub library's error means to a person."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        cause = _root(error)
        status = _status(cause)
        if isinstance(cause, GatedRepoError) or status == 403:
            return errors.ModelRefused(
                "a model that anyone may download", got=f"{self._repo_id}, which asks for permission first",
                next_step="Accept its terms on its hub page and set HF_TOKEN, or put its files into the models folder.",
                code="hub_gated", repo=self._repo_id,
            )
        if isinstance(cause, RevisionNotFoundError):
            return errors.ModelNotFound(
                f"a revision of {self._repo_id}", got="none of that name",
                next_step="Check the part after @.", code="hub_revision_missing", repo=self._repo_id,
            )
        if isinstance(cause, RepositoryNotFoundError) or status in (401, 404):
            return errors.ModelNotFound(
                "a public model on the hub", got=f"{self._repo_id}, which does not exist there or is private",
                next_step="Check the spelling: org/name.", code="hub_not_found", repo=self._repo_id,
            )
        cached = cached_commits(self._repo_id, cache=self._cache)
        known = f"{self._repo_id}@{cached[-1]}" if cached else ""
        next_step = _NEXT_OFFLINE + (f" Already on this machine: {known}." if known else "")
        if status:
            return errors.HubUnavailable(
                "the model hub to hand out the model", got=f"its error {status} for {self._repo_id}",
                next_step=next_step, code="hub_error", repo=self._repo_id, status=status, cached=known,
            )
        return errors.HubUnavailable(
            "an answer from the model hub", got=f"no connection ({type(cause).__name__})", next_step=next_step,
            code="hub_offline", repo=self._repo_id, cached=known,
        )


def _network_errors() -> tuple[type[Exception], ...]:
    """What requests to the hub raise: its library's errors, and its HTTP library's, whichever that is."""
    from huggingface_hub.errors import HfHubHTTPError

    return (HfHubHTTPError.__bases__[0], OSError)


def _root(error: BaseException) -> BaseException:
    """The first cause: the library wraps a failed request in a FileNotFoundError of its own."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _status(error: BaseException) -> int:
    response = getattr(error, "response", None)
    return int(getattr(response, "status_code", 0) or 0)


def _passing(error: BaseException) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        return False  # the library has already tried several times, or was told not to
    status = _status(error)
    return status in RETRY_STATUSES if status else True


def _meter(on_bytes: Callable[[int], None]) -> Callable[..., Any]:
    """A stand-in for a progress bar's class that tells bytes instead of drawing.

    The library may open two bars a file (received, written): the furthest one counts.
    """
    furthest = 0

    class Meter:
        def __init__(self, *args: Any, initial: int = 0, total: int | None = None, **options: Any) -> None:
            self.n, self.total = initial, total

        def __enter__(self) -> Meter:
            return self

        def __exit__(self, *error: object) -> None:
            self.close()

        def update(self, count: int | float | None = 1) -> None:
            nonlocal furthest
            self.n += int(count or 0)
            furthest = max(furthest, self.n)
            on_bytes(furthest)

        def close(self) -> None:
            """Nothing is held."""

        def refresh(self, *args: Any, **options: Any) -> None:
            """Nothing is drawn."""

        set_description = set_description_str = set_postfix_str = refresh

    return Meter
