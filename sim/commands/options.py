"""Options that several commands have."""

from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a field; may be repeated."),
]
JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the results as JSON.")
]
