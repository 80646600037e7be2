// A live block never takes a form away from under somebody's fingers: while one is open, focused or typed in, the block says
// that the ticket has changed instead of fetching itself again.
(function () {
  "use strict";
  if (window.brewairService) return;
  window.brewairService = true;

  function busy(block) {
    return block.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")
      || block.querySelector("details.action-form[open], details.choose[open], [data-typed]") !== null;
  }
  document.addEventListener("input", function (event) {
    if (event.target.closest("[data-keep-form] form")) event.target.setAttribute("data-typed", "");
  });
  document.addEventListener("htmx:before:request", function (event) {
    var block = event.target;
    if (!block.matches || !block.matches("[data-keep-form]") || !busy(block)) return;
    event.preventDefault();
    warn(block, true);
  });
  document.addEventListener("htmx:after:swap", function () {
    document.querySelectorAll("[data-keep-form]").forEach(function (block) { warn(block, false); });
  });

  // Another live part of the page may carry the ticket's version as it is now; a list has none and may have changed always.
  function warn(block, kept) {
    var now = document.querySelector("[data-version]"), mine = block.querySelector("input[name=version]"), note = block.querySelector("[data-stale]");
    if (note) note.hidden = now && mine ? now.dataset.version === mine.value : !kept;
  }
})();
