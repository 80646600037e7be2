// What the pages do beyond plain HTML. Without it every page and form still works.
(function () {
  "use strict";

  // --- toasts: dismissed by their button; good news goes by itself (CSS), bad news stays
  document.addEventListener("click", function (event) {
    var button = event.target.closest("[data-dismiss]");
    if (button) button.parentElement.remove();
    document.querySelectorAll("details.menu[open]").forEach(function (menu) {
      if (!menu.contains(event.target)) menu.open = false;
    });
  });
  document.addEventListener("animationend", function (event) {
    if (event.animationName === "toast-leaves") event.target.remove();
  });
  document.addEventListener("keydown", function (event) {
    if (event.key !== "Escape") return;
    document.querySelectorAll("details.menu[open], details.action-form[open]").forEach(function (open) {
      open.open = false;
      open.querySelector("summary").focus();
    });
  });

  // --- light or dark
  var themeSwitch = document.querySelector("[data-theme-switch]");
  if (themeSwitch) {
    themeSwitch.hidden = false;
    themeSwitch.addEventListener("click", function () {
      var root = document.documentElement;
      var next = root.getAttribute("data-bs-theme") === "dark" ? "light" : "dark";
      root.setAttribute("data-bs-theme", next);
      try { localStorage.setItem("theme", next); } catch (refused) { /* it holds for this page */ }
    });
  }

  // --- a form is sent once
  document.addEventListener("submit", function (event) {
    var form = event.target;
    if (form.dataset.sent) { event.preventDefault(); return; }
    if (form.method === "post") form.dataset.sent = "1";
  });
  window.addEventListener("pageshow", function () {
    document.querySelectorAll("form[data-sent]").forEach(function (form) { delete form.dataset.sent; });
  });
  document.addEventListener("htmx:finally:request", function (event) {
    var form = event.target.closest && event.target.closest("form");
    if (form) delete form.dataset.sent;
  });

  // --- clocks: business time in the header, and what is left of deadlines. Scaled in a demo.
  var loaded = performance.now();
  function since(element) {
    if (!element._from) element._from = performance.now();
    return (performance.now() - element._from) / 1000;
  }
  function two(number) { return String(number).padStart(2, "0"); }
  function tick() {
    document.querySelectorAll("[data-clock]").forEach(function (clock) {
      var now = Number(clock.dataset.clock) + (performance.now() - loaded) / 1000 * Number(clock.dataset.factor);
      var local = new Date((now + Number(clock.dataset.offset)) * 1000);
      clock.textContent = two(local.getUTCHours()) + ":" + two(local.getUTCMinutes()) + ":" + two(local.getUTCSeconds());
    });
    document.querySelectorAll("[data-remaining]").forEach(function (clock) {
      if (clock._given !== clock.dataset.remaining) { clock._given = clock.dataset.remaining; clock._from = performance.now(); }
      var left = Math.abs(Number(clock.dataset.remaining) - since(clock) * Number(clock.dataset.factor));
      clock.textContent = Math.floor(left / 3600) + ":" + two(Math.floor(left / 60) % 60);
    });
    document.querySelectorAll("[data-countdown]").forEach(function (clock) {
      if (clock._given !== clock.dataset.countdown) { clock._given = clock.dataset.countdown; clock._from = performance.now(); }
      var left = Math.max(0, Number(clock.dataset.countdown) - since(clock) * Number(clock.dataset.factor || 1));
      clock.textContent = Math.floor(left / 60) + ":" + two(Math.floor(left) % 60);
    });
  }
  setInterval(tick, 1000);
  tick();

  // --- the page's event stream: one per page; an event lets the live blocks fetch themselves again
  var stream = null;
  function follow() {
    var element = document.querySelector("[data-stream]");
    var wanted = element ? element.dataset.stream : null;
    if (stream && stream.wanted === wanted) return;
    if (stream) stream.source.close();
    stream = null;
    if (!wanted || !window.EventSource) return;
    stream = { wanted: wanted, source: new EventSource(wanted) };
    stream.source.addEventListener("change", function () { document.body.dispatchEvent(new CustomEvent("live")); });
    stream.source.addEventListener("end", function () { location.reload(); });
    stream.source.addEventListener("open", function () { document.body.dataset.live = "on"; });
    stream.source.addEventListener("error", function () { document.body.dataset.live = "off"; });
  }
  window.addEventListener("pagehide", function () { if (stream) { stream.source.close(); stream = null; } });
  window.addEventListener("pageshow", follow);

  // --- after each swap: a new stream
  function settle() {
    follow();
    tick();
  }
  document.addEventListener("htmx:after:swap", settle);
  settle();
})();
