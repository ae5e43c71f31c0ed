"""What a page is to the table of pages."""

from dataclasses import dataclass

from fastapi import APIRouter


@dataclass(frozen=True)
class Page:
    """One row of the table.

    Attributes:
        name: of the page; its title in the catalogs is ``page.NAME``.
        path: its address.
        router: its requests.
        in_menu: whether the menu of every page leads to it.
    """

    name: str
    path: str
    router: APIRouter
    in_menu: bool = False
