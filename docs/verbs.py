"""Shows the verbs of the workspace in the reference, for mkdocs: griffe sees ``Verb(learning.learn)``, not what it stands for."""

import re
from typing import Any

import griffe

LISTING = "evergallery.workspace"


class Verbs(griffe.Extension):
    """Puts the function of each verb, with its docstring, in its place in the class that lists it."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Look at the package once all of it is read."""
        module = pkg.modules_collection[LISTING]
        listing = module["Workspace"]
        for name, member in list(listing.members.items()):
            value = member.value if isinstance(member, griffe.Attribute) else None
            if not isinstance(value, griffe.ExprCall) or str(value.function) not in ("Verb", "Creation"):
                continue
            # A verb may have the name of its module, so names are looked up in the module and not in the class.
            first, _, rest = str(value.arguments[0]).partition(".")
            function = pkg.modules_collection[f"{module[first].target_path}.{rest}"]
            listing.set_member(name, _method(member, function, takes_holdings=str(value.function) == "Verb"))


def _method(place: griffe.Attribute, function: griffe.Function, *, takes_holdings: bool) -> griffe.Function:
    """The function as a method: without the holdings, which the workspace has."""
    parameters = list(function.parameters)
    made = griffe.Function(
        place.name,
        lineno=place.lineno,
        endlineno=place.endlineno,
        parameters=griffe.Parameters(*(parameters[1:] if takes_holdings else parameters)),
        returns=function.returns if takes_holdings else "Workspace",
        parent=place.parent,
    )
    if function.docstring is not None:
        told = re.sub(r"^ *holdings: .*\n", "", function.docstring.value, flags=re.M)
        made.docstring = griffe.Docstring(told, parser=griffe.Parser.google, parent=made)
    return made
