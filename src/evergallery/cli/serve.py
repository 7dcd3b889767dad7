"""``evergallery serve`` and ``evergallery token``: the HTTP API, and who may use it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evergallery.cli import completion
from evergallery.cli.choices import Scope, SearchWay
from evergallery.cli.common import (
    HERE,
    ImagesFromOption,
    JsonOption,
    RuntimeOption,
    WorkspaceOption,
    open_workspace,
    say_result,
    with_quiet,
)
from evergallery.cli.console import out, print_json, print_table, say

if TYPE_CHECKING:
    from evergallery.serving.tokens import Tokens

token_app = typer.Typer(no_args_is_help=True, help="Tokens: who may read, write, or decide what answers over HTTP.")

HostOption = Annotated[str, typer.Option(help="Address to listen at; any but loopback needs tokens.")]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")]
NameOption = Annotated[
    list[str] | None, typer.Option(help="A host by which a proxy calls this server; may be repeated.")
]
ProxyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="ADDRESS", help="Address of a proxy whose X-Forwarded-For is trusted; may be repeated."),
]
AllowWritesOption = Annotated[
    bool, typer.Option("--allow-writes", help="On loopback, let everyone do everything without a token.")
]
RequireTokenOption = Annotated[
    bool | None,
    typer.Option(
        "--require-token/--no-require-token",
        help="Whether to require a token while there is none, from now on; required by default once there was one.",
    ),
]
RateOption = Annotated[float, typer.Option(min=0, max=1e9, help="Requests a second that a client may make; 0 for any.")]
BurstOption = Annotated[int, typer.Option(min=1, help="Requests that a client may make at once.")]
UploadMegabytesOption = Annotated[float, typer.Option(min=0.001, max=1e6, help="Most megabytes of one picture.")]
UploadMegapixelsOption = Annotated[float, typer.Option(min=0.001, max=1e6, help="Most megapixels of one picture.")]
BackupsOption = Annotated[Path | None, typer.Option(help="Where snapshots go; backups in the workspace by default.")]
ShadowOption = Annotated[
    str | None,
    typer.Option(help="A generation that answers a sample of the searches by picture too; see the status."),
]
SampleOption = Annotated[float | None, typer.Option(help="For --shadow: share of the searches; 0.05 by default.")]
ShadowAnswerOption = Annotated[
    SearchWay | None,
    typer.Option(help="For --shadow: how it would answer.", autocompletion=completion.search_ways),
]
CanaryOption = Annotated[
    str | None,
    typer.Option(help="A generation that answers some of the clients, always the same ones, after the gate."),
]
ShareOption = Annotated[float | None, typer.Option(help="For --canary: share of the clients; 0.05 by default.")]
ByOption = Annotated[
    str | None,
    typer.Option(
        help="For --canary: what a client is known by: token, address, a header's name, or client, the default, for the "
        "token and without one the address."
    ),
]
CanaryAnswerOption = Annotated[
    SearchWay | None,
    typer.Option(help="For --canary: how it answers.", autocompletion=completion.search_ways),
]
DriftReferenceOption = Annotated[
    int,
    typer.Option(min=0, help="Searches with which later ones are compared, to see whether queries drift; 0 for none."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="For --canary: start it although the gate refuses it.")]
WhyOption = Annotated[str | None, typer.Option(help="For --canary: the reason for that, kept in the log.")]


SHARE = 0.05
"""Share of the searches that a shadow answers, and of the clients that a canary does, where nothing else is said."""


def serve(
    workspace: WorkspaceOption = HERE,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8765,
    name: NameOption = None,
    proxy: ProxyOption = None,
    allow_writes: AllowWritesOption = False,
    require_token: RequireTokenOption = None,
    rate: RateOption = 100.0,
    burst: BurstOption = 400,
    upload_megabytes: UploadMegabytesOption = 20.0,
    upload_megapixels: UploadMegapixelsOption = 64.0,
    images_from: ImagesFromOption = None,
    backups: BackupsOption = None,
    shadow: ShadowOption = None,
    sample: SampleOption = None,
    shadow_answer: ShadowAnswerOption = None,
    canary: CanaryOption = None,
    share: ShareOption = None,
    by: ByOption = None,
    canary_answer: CanaryAnswerOption = None,
    drift_reference: DriftReferenceOption = 2000,
    force: ForceOption = False,
    why: WhyOption = None,
    runtime: RuntimeOption = None,
) -> None:
    """Serve the gallery: an HTTP API, and a page at the same address."""
    from evergallery.holdings.answer import Answer
    from evergallery.serving.limits import Limits

    with _extra():
        from evergallery.serving.app import server
        from evergallery.serving.canary import CanarySettings
        from evergallery.serving.service import ServiceSettings
        from evergallery.serving.shadow import ShadowSettings
    shadowing = canarying = None
    if shadow is not None:
        shadowing = ShadowSettings(shadow, SHARE if sample is None else sample, Answer.of(shadow_answer))
    if canary is not None:
        known_by, part = by or "client", SHARE if share is None else share
        canarying = CanarySettings(canary, part, known_by, Answer.of(canary_answer), force, why)
    limits = Limits(
        rate=rate, burst=burst, upload_bytes=int(upload_megabytes * 2**20), upload_pixels=int(upload_megapixels * 1e6)
    )
    server.serve(
        workspace,
        server.Address(host, port, name or (), proxy or ()),
        ServiceSettings(limits, backups, shadowing, canarying, drift_reference),
        policy=server.TokenPolicy(allow_writes, require_token),
        images_from=images_from or (),
    )


@token_app.command("create", epilog="Example:  evergallery token create --name till --scope read")
@with_quiet
def token_create(
    name: Annotated[str, typer.Option(help="Whose it is, for the log.")],
    scope: Annotated[Scope, typer.Option(help="What it lets somebody do.")],
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Make a token and print it. It cannot be shown again: the workspace keeps a hash of it."""
    token = _tokens(workspace).create(name, scope)
    if json:
        print_json({"name": name, "scope": scope, "token": token})
    else:
        out.print(token, soft_wrap=True)


@token_app.command("list", epilog="Example:  evergallery token list")
@with_quiet
def token_list(workspace: WorkspaceOption = HERE, json: JsonOption = False) -> None:
    """List the tokens by name."""
    known = _tokens(workspace).all()
    if json:
        print_json([{"name": token.name, "scope": token.scope, "created": token.created} for token in known])
    elif not known and open_workspace(workspace).holdings.state.require_token:
        say("There are no tokens, and this workspace demands one: a server lets nobody in until you make one.")
    elif not known:
        say("There are no tokens: a server on loopback lets everyone read, and others do not start.")
    else:
        print_table(
            "Tokens", ("name", "scope", "created"), [(token.name, token.scope, token.created) for token in known], 9
        )


@token_app.command("revoke", epilog="Example:  evergallery token revoke till")
@with_quiet
def token_revoke(
    name: Annotated[str, typer.Argument(help="Name of the token.", autocompletion=completion.tokens)],
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Revoke a token; a running server obeys at once."""
    tokens = _tokens(workspace)
    tokens.revoke(name)
    last = "" if tokens.all() else " It was the last one: nobody is let in until you make another."
    say_result({"revoked": name}, f"{name} is revoked.{last}", json)


def _tokens(workspace: Path) -> "Tokens":
    from evergallery.serving.tokens import Tokens

    return Tokens(open_workspace(workspace).directory)


@contextmanager
def _extra() -> Iterator[None]:
    from evergallery.errors import MissingExtraError

    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in (
            "fastapi",
            "multipart",
            "prometheus_client",
            "starlette",
            "uvicorn",
        ):
            raise
        raise MissingExtraError("Serving over HTTP", "serve") from error
