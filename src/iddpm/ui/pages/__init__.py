"""The pages: another one is a file here and a row of this table."""

from iddpm.ui.pages import (
    edit_page,
    event_route,
    file_routes,
    item_routes,
    measure_page,
    preference_routes,
    queue_page,
    run_list_page,
    run_page,
    sample_page,
    train_page,
    upscale_page,
)
from iddpm.ui.pages.page import Page

PAGES = (
    Page("runs", "/", run_list_page.router, in_menu=True),
    Page("train", "/train", train_page.router, in_menu=True),
    Page("run", "/run", run_page.router),
    Page("sample", "/sample", sample_page.router, in_menu=True),
    Page("edit", "/edit", edit_page.router, in_menu=True),
    Page("upscale", "/upscale", upscale_page.router, in_menu=True),
    Page("measure", "/measure", measure_page.router, in_menu=True),
    Page("queue", "/queue", queue_page.router, in_menu=True),
    Page("items", "/item", item_routes.router),
    Page("files", "/file", file_routes.router),
    Page("events", "/events", event_route.router),
    Page("preferences", "/preferences", preference_routes.router),
)
