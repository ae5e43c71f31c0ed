// Lists that submit their form when something is chosen; loaded before they are shown, unlike the rest.
document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-submit]")) target.form.submit();
});
