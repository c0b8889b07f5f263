"""Who acts and where from, from the catalogue's structs to the envelope's."""

import math

from streamer.catalog import frame
from streamer.model import Actor, Geo, Project

_NO_SESSION, _NO_KEY, _NOBODY, _NOWHERE = frame.Session(), frame.ApiKey(), Actor(), Geo()


def to_actor(said: frame.Actor) -> Actor | None:
    session, key = said.session or _NO_SESSION, said.api_key or _NO_KEY
    kind, identity, email = _holder(said, session, key)
    where = session.ip_address_details
    actor = Actor(
        type=kind,
        id=identity,
        email=email,
        via=_via(said),
        api_key_id=key.id,
        ip=session.ip_address,
        user_agent=session.user_agent,
        ja3=session.ja3,
        ja4=session.ja4,
        geo=_geo(where) if where is not None else None,
    )
    return actor if actor != _NOBODY else None


def _via(said: frame.Actor) -> str | None:
    if said.type is None:
        return "session" if said.session is not None else "api_key" if said.api_key is not None else None
    return None if said.type in ("user", "service_account") else said.type


def _holder(said: frame.Actor, session: frame.Session, key: frame.ApiKey) -> tuple[str | None, str | None, str | None]:
    """Type, id and e-mail of who stands behind the session or the key."""
    user = session.user or said.user
    if key.user is not None and (user is None or said.type == "api_key"):
        user = key.user
    if key.service_account is not None and (user is None or key.type == "service_account"):
        return "service_account", key.service_account.id, None
    if user is not None:
        return "user", user.id, user.email
    return key.type or (said.type if said.type not in ("session", "api_key") else None), None, None


def _geo(said: frame.AddressDetails) -> Geo | None:
    geo = Geo(
        country=said.country,
        region=said.region,
        city=said.city,
        asn=_asn(said.asn),
        latitude=_degrees(said.latitude, 90),
        longitude=_degrees(said.longitude, 180),
    )
    return geo if geo != _NOWHERE else None


def _asn(said: str | int | None) -> int | None:
    digits = said.strip().upper().removeprefix("AS") if isinstance(said, str) else str(said)
    if not digits.isascii() or not digits.isdigit() or len(digits) > 10:
        return None
    return number if (number := int(digits)) < 2**32 else None


def _degrees(said: str | float | None, limit: float) -> float | None:
    try:
        degrees = float(said) if said is not None else math.nan
    except (ValueError, OverflowError):
        return None
    return degrees if -limit <= degrees <= limit else None


def to_project(said: frame.Project) -> Project | None:
    return Project(said.id, said.name) if said.id is not None or said.name is not None else None
