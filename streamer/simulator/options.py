"""Every option of the simulator, described, for the command line and for tests."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from streamer.simulator.answers import SCOPES
from streamer.simulator.company import DEFAULT_KEY
from streamer.simulator.faults import parse_fault
from streamer.simulator.story import Profile


def _checked_fault(text: str) -> str:
    parse_fault(text)
    return text


class SimulatorOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=0, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    events: int = Field(default=2000, ge=0, le=5_000_000, description="Events that lie in the past at the start.")
    days: float = Field(default=30, gt=0, le=3650, description="How far back they reach.")
    until: int | None = Field(
        default=None,
        ge=0,
        description="Unix second at which that past ends; with a seed it fixes every byte. Default: now.",
    )
    rate: float = Field(default=0, ge=0, le=10_000, description="Events a second that come into being while it runs.")
    profile: Profile = Field(
        default="company",
        description="company: a working company, its story and, from 300 events on, every type; story: a quiet company and the story; "
        "quiet: nothing that should alarm anybody; bulk: events of about 950 bytes, for measurements.",
    )
    seed: int = Field(default=1, description="The same seed makes the same company and the same events.")
    people: int = Field(default=60, ge=3, le=100_000, description="People of the company.")
    projects: int = Field(default=12, ge=1, le=10_000, description="Its projects.")
    keys: int = Field(default=80, ge=1, le=100_000, description="Its projects' API keys.")
    service_accounts: int = Field(default=10, ge=1, le=10_000, description="Its service accounts.")
    api_keys: tuple[str, ...] = Field(default=(DEFAULT_KEY,), min_length=1, description="Admin keys that are accepted.")
    scopes: tuple[str, ...] = Field(default=SCOPES, description="What these keys may read; the rest answers 403.")
    requests_per_minute: int = Field(
        default=0, ge=0, description="Rate limit of all lists but the audit log, with x-ratelimit headers; 0: none."
    )
    failing_projects: int = Field(default=0, ge=0, description="So many projects answer 500 to every read below them.")
    gzip: bool = Field(default=False, description="Compress answers for clients that accept it.")
    faults: tuple[Annotated[str, AfterValidator(_checked_fault)], ...] = Field(
        default=(), description="Faults: NAME or NAME:probability=0.1,count=5,value=30,on=tenant."
    )
    stop_with_parent: bool = Field(
        default=False, description="Stop when standard input ends, as it does when a parent dies."
    )
