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

  // The ring of a test run counts on between what the server says: data-ring s left of data-wanted, data-factor business seconds
  // a second, no further than data-ahead s (a silence of 60 s restarts the count). Each answer (data-at) starts afresh; a run
  // that is over has no such ring, and then nothing ticks.
  var timer = null;
  function count(ring) {
    if (ring._at !== ring.dataset.at) { ring._at = ring.dataset.at; ring._from = performance.now(); }
    var ahead = Math.min((performance.now() - ring._from) / 1000 * Number(ring.dataset.factor), Number(ring.dataset.ahead));
    var wanted = Number(ring.dataset.wanted), left = Math.max(0, Number(ring.dataset.ring) - ahead);
    ring.querySelector("b").textContent = Math.floor(left / 60) + ":" + String(Math.floor(left % 60)).padStart(2, "0");
    ring.querySelector(".ring-done").setAttribute("stroke-dasharray", ((1 - left / wanted) * 326.7).toFixed(1) + " 326.7");
  }
  function tick() {
    var rings = document.querySelectorAll("[data-ring]");
    rings.forEach(count);
    if (rings.length && !timer) timer = setInterval(tick, 1000);
    if (!rings.length && timer) { clearInterval(timer); timer = null; }
  }
  document.addEventListener("htmx:after:swap", tick);
  tick();
})();
