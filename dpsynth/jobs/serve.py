"""The lead's side of a study over the network: the relay of a study file, to which its hospitals connect."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dpsynth.errors import InputError
from dpsynth.federated.keys import PrivateKeys, same_fingerprint
from dpsynth.federated.study import Study
from dpsynth.jobs.join import check_pinned

if TYPE_CHECKING:
    from dpsynth.federated.relay import Relay

__all__ = ["listening", "relay_of"]

_EVERYWHERE = "0.0.0.0"  # noqa: S104  (hospitals connect from outside)


def relay_of(
    study: Study,
    key: str | Path,
    *,
    listen: str | None = None,
    inspected: Collection[str] = (),
    folder: Path | None = None,
    notice: Callable[[str, str], None] = lambda _name, _state: None,
) -> "Relay":
    """Return the relay of a study, to be opened with ``with``: the transport of `dpsynth.jobs.federate.fit_together`.

    Parameters
    ----------
    study : Study
        With fingerprints of the lead and of all hospitals.
    key : path
        The lead's keys, of ``dpsynth federate key``.
    listen : str, optional
        ``HOST:PORT`` or ``:PORT``; default: the port of the lead's address, on all interfaces.
    inspected : collection of str
        Hospitals behind a proxy that inspects TLS.
    folder : path, optional
        Where large answers are kept until they are added up.
    notice : callable, optional
        Called with a hospital's name and its new state.

    Raises
    ------
    InputError
        When a fingerprint or the address is missing, or the keys are not the lead's.

    Examples
    --------
    >>> from dpsynth.federated.study import Study
    >>> study = Study.parse({
    ...     "name": "wards", "epsilon": 1.0, "hospitals": [{"name": name} for name in "abc"],
    ...     "schema": {"name": "ward", "confirmed": True, "columns": {"died": {"type": "boolean"}}},
    ... })
    >>> relay_of(study, "lead.key")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    dpsynth.errors.InputError: study 'wards': lead has no fingerprint. Have it read out by telephone from ...
    """
    from dpsynth.federated.relay import Relay

    lead = check_pinned(study)
    keys = PrivateKeys.load(key)
    if not same_fingerprint(keys.public.fingerprint, lead.fingerprint):
        raise InputError(
            f"{Path(key).name}: has the fingerprint {keys.public.fingerprint}, but the study file names "
            f"{lead.fingerprint} for the lead. Use the key of that fingerprint, or have the study file changed and "
            "sent to everybody."
        )
    strangers = [name for name in inspected if name not in study.names]
    if strangers:
        raise InputError(f"--inspected {strangers[0]}: is no hospital of the study; it names {', '.join(study.names)}.")
    host, port = listening(listen, lead.address)
    return Relay(
        study.digest,
        keys,
        {hospital.name: hospital.fingerprint for hospital in study.hospitals},
        lead=lead.name,
        host=host,
        port=port,
        inspected=inspected,
        folder=folder,
        notice=notice,
    )


def listening(named: str | None, address: str) -> tuple[str, int]:
    """Return host and port to listen at.

    Parameters
    ----------
    named
        ``HOST:PORT`` or ``:PORT``; None for the port of the address.
    address
        The lead's in the study file.

    Raises
    ------
    InputError
        If it is neither.

    Examples
    --------
    >>> listening(None, "https://lead.example.org"), listening("127.0.0.1:8443", "https://lead.example.org")
    (('0.0.0.0', 443), ('127.0.0.1', 8443))
    """
    try:
        parts = urlsplit(address if named is None else f"//{named}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if named is None:
        return _EVERYWHERE, port or 443
    if port is None:
        raise InputError(f"--listen {named!r}: expected HOST:PORT or :PORT, such as :8443.")
    return parts.hostname or _EVERYWHERE, port
