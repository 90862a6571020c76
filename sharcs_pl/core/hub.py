"""Probes of the Hugging Face hub. Each asks once, waits a few seconds and does not retry."""

from __future__ import annotations

PROBE_SECONDS = 5.0


def why_unreachable(name: str, kind: str = "model") -> str | None:
    """Return why the hub does not answer about a repository, or None if it does. `kind`: ``model`` or ``dataset``.

    Raise ``HFValidationError`` for a name that no repository can have. Raise ``HfHubHTTPError``, the base of
    ``GatedRepoError`` and ``RepositoryNotFoundError``, if the hub refuses the request.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
    try:
        ask(name, timeout=PROBE_SECONDS)
    except (HFValidationError, HfHubHTTPError):
        raise
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set"
    except Exception as error:  # noqa: BLE001  (the HTTP library below differs by version, and so do its errors)
        return " ".join(str(error).split())[:80] or type(error).__name__
    return None


def why_unreachable_model(key: str, name: str, otherwise: str) -> str | None:
    """Return why the hub does not answer about the model ``key=name``, or None if it does.

    Raise ``ValueError`` if the model needs a login or does not exist. ``otherwise`` ends the latter message.
    Raise ``HFValidationError`` for a name that no repository can have.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        return why_unreachable(name)
    except GatedRepoError as error:
        raise ValueError(f"{key}={name} asks for a login: run `hf auth login` first") from error
    except RepositoryNotFoundError as error:
        raise ValueError(f"{key}={name}: there is no such folder, nor such a model on the hub{otherwise}") from error
    except HfHubHTTPError as error:
        return " ".join(str(error).split())[:80] or type(error).__name__
