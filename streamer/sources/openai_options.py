"""What an operator says about an OpenAI organization. Imports no client, so that reading a configuration stays cheap."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, PlainSerializer, SecretStr, model_validator
from yarl import URL

from streamer.catalog import lookup
from streamer.config import Duration, Secret, SourceOptions, Strict, Url, one_secret
from streamer.model import Listing, SourceName


def _askable(text: str) -> str:
    """Percent-encoded, its host in ASCII."""
    try:
        url = URL(text)
        (url.host or "").encode("idna")
    except ValueError:
        raise ValueError("is not a URL that can be asked; check its host and port") from None
    return str(url).rstrip("/")


def _bare(text: str) -> str:
    url = URL(text)
    if url.query_string or url.fragment or url.user or url.password:
        raise ValueError(f"{url.scheme}://{url.host} … must be an address alone; remove user, password, ? and #")
    return text


def _without_password(text: str) -> str:
    return str(URL(text).with_user(None)) if URL(text).user else text


BaseUrl = Annotated[Url, AfterValidator(_askable), AfterValidator(_bare)]
ProxyUrl = Annotated[Url, AfterValidator(_askable), PlainSerializer(_without_password, when_used="json")]
Word = Annotated[str, Field(min_length=1, max_length=256)]


class OpenAIFilters(Strict):
    """What upstream is asked for; an empty list asks for everything. What is left out here is never seen again."""

    event_types: list[Word] = Field(default_factory=list)
    """As `streamer types` shows them."""
    project_ids: list[Word] = Field(default_factory=list)
    """`proj_…`"""
    actor_ids: list[Word] = Field(default_factory=list)
    """User or service account ids."""
    actor_emails: list[Word] = Field(default_factory=list)
    """E-mail addresses."""
    resource_ids: list[Word] = Field(default_factory=list)
    """Ids of what was acted on."""


class OpenAITimeouts(Strict):
    connect: Duration = 10.0
    """Name lookup, TCP and TLS."""
    read: Duration = 30.0
    """Between two pieces of an answer, the first included."""
    total: Duration = 120.0
    """A whole request, waiting for a free connection included."""


class OpenAIAuditLogsOptions(SourceOptions):
    """The audit log of one OpenAI organization."""

    api_key: SecretStr | None = None
    """An admin key (`sk-admin-…`) with the scope api.audit_logs.read; or two, one a line, as in the file."""
    api_key_file: Path | None = None
    """Read again when it changes, so that a key is rotated by replacing the file. It may hold two keys, one a line: when the API refuses the one in
    use with 401, the other is tried before that counts."""
    base_url: BaseUrl = "https://api.openai.com/v1"
    """Another one for regional hosts, a proxy, or the simulator."""
    filters: OpenAIFilters = OpenAIFilters()
    """Narrow what upstream is asked for. As a rule leave it alone and filter at the sinks."""
    timeouts: OpenAITimeouts = OpenAITimeouts()
    """Of one request."""
    proxy: ProxyUrl | None = None
    """An HTTP proxy. Proxy variables of the environment are not looked at."""
    ca_file: Path | None = None
    """Authorities (PEM) that are trusted instead of the system's, for a proxy that inspects TLS."""

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        if one_secret("api_key", self.api_key, self.api_key_file) is None:
            raise ValueError("api_key is missing; set api_key or api_key_file")
        return self

    @model_validator(mode="after")
    def _has_types(self) -> Self:
        if not self.readable_listings():
            raise ValueError(
                f"filters.event_types holds no type of listings {', '.join(self.listings)}; change one of them"
            )
        return self

    def types_of(self, listing: Listing) -> list[str]:
        """The asked-for types that this listing can hold: upstream refuses a request for types of the other one."""
        return [name for name in self.filters.event_types if lookup(name).listing == listing]

    def readable_listings(self) -> list[Listing]:
        """Without those for which the filter leaves no type."""
        return [one for one in self.listings if not self.filters.event_types or self.types_of(one)]

    def key(self, name: SourceName) -> Secret:
        """A fresh Secret: a file is read when it is first revealed."""
        secret = one_secret(f"sources.{name}.api_key", self.api_key, self.api_key_file)
        assert secret is not None
        return secret
