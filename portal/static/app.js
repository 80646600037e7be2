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
      document.querySelectorAll("[data-chart]").forEach(drawChart);
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

  // --- charts. JSON: {"t": [s since 1970…], "series": [{"label", "unit", "values": [number|null…], "tone"?}],
  //     "limits": [{"label", "low"?, "high"?, "unit"?}], "spans"?: [{"from", "to", "label"}]}
  //     One axis per unit, at most two units; a limit is drawn on the axis of its unit (default: the first).
  var TONES = ["--chart-1", "--chart-2", "--chart-3", "--chart-4", "--chart-5"];
  function token(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
  function drawChart(figure) {
    var note = figure.querySelector(".chart-note");
    fetch(figure.dataset.chart, { headers: { Accept: "application/json" } })
      .then(function (answer) { if (!answer.ok) throw new Error(String(answer.status)); return answer.json(); })
      .then(function (data) {
        note.textContent = data.t.length ? "" : note.dataset.empty;
        if (figure._plot) { figure._plot.destroy(); figure._plot = null; }
        if (data.t.length) figure._plot = plot(figure, data);
      })
      .catch(function () { note.textContent = note.dataset.failed; });
  }
  function plot(figure, data) {
    var canvas = figure.querySelector(".chart-canvas");
    var units = [];
    data.series.forEach(function (s) { if (units.indexOf(s.unit) < 0) units.push(s.unit); });
    var grid = { stroke: token("--line"), width: 1 }, ink = token("--ink-soft");
    var font = "12px " + getComputedStyle(document.body).fontFamily;
    var zone = data.zone || "Asia/Shanghai", long = data.t[data.t.length - 1] - data.t[0] > 36 * 3600;
    function clock(seconds, full) {
      var options = { timeZone: zone, hourCycle: "h23", hour: "2-digit", minute: "2-digit" };
      if (full) options.second = "2-digit";
      if (long) { options.month = "numeric"; options.day = "numeric"; }
      return new Intl.DateTimeFormat(document.documentElement.lang, options).format(new Date(seconds * 1000));
    }
    var axes = [{ stroke: ink, grid: grid, ticks: grid, font: font, space: long ? 110 : 60, values: function (u, ticks) { return ticks.map(function (tick) { return clock(tick, false); }); } }];
    units.slice(0, 2).forEach(function (unit, index) {
      axes.push({ scale: unit || "y", side: index ? 1 : 3, stroke: ink, grid: index ? { show: false } : grid, ticks: grid, font: font, label: unit, labelSize: 18, labelFont: font, size: 54 });
    });
    var scales = { x: { time: true } };
    units.forEach(function (unit) {
      var bounds = (data.limits || []).filter(function (l) { return (l.unit || units[0]) === unit; });
      scales[unit || "y"] = { range: function (u, low, high) {
        bounds.forEach(function (l) {
          if (l.low != null) low = Math.min(low, l.low);
          if (l.high != null) high = Math.max(high, l.high);
        });
        var margin = (high - low || Math.abs(high) || 1) * 0.08;
        return [low - margin, high + margin];
      } };
    });
    var series = [{ label: figure.dataset.timeLabel, value: function (u, v) { return v == null ? "–" : clock(v, true); } }].concat(data.series.map(function (s, index) {
      return { label: s.label, scale: s.unit || "y", stroke: token(TONES[index % TONES.length]), width: 2, spanGaps: false, points: { show: data.t.length < 60 },
        value: function (u, v) { return v == null ? "–" : Math.round(v * 100) / 100 + (s.unit ? " " + s.unit : ""); } };
    }));
    var chart = new window.uPlot({
      width: canvas.clientWidth, height: Number(figure.dataset.height), axes: axes, scales: scales, series: series,
      tzDate: function (seconds) { return window.uPlot.tzDate(new Date(seconds * 1000), zone); },
      legend: { live: true }, cursor: { points: { size: 7 } },
      hooks: { drawClear: [function (u) { drawLimits(u, data, units); }] },
    }, [data.t].concat(data.series.map(function (s) { return s.values; })), canvas);
    new ResizeObserver(function () { if (canvas.clientWidth) chart.setSize({ width: canvas.clientWidth, height: Number(figure.dataset.height) }); }).observe(canvas);
    return chart;
  }
  function drawLimits(u, data, units) {
    var ctx = u.ctx, box = u.bbox;
    ctx.save();
    (data.spans || []).forEach(function (span) {
      var from = Math.max(u.valToPos(span.from, "x", true), box.left), to = Math.min(u.valToPos(span.to, "x", true), box.left + box.width);
      if (to <= from) return;
      ctx.fillStyle = token("--chart-span");
      ctx.fillRect(from, box.top, to - from, box.height);
    });
    (data.limits || []).forEach(function (limit) {
      ["low", "high"].forEach(function (side) {
        if (limit[side] == null) return;
        var y = Math.round(u.valToPos(limit[side], limit.unit || units[0] || "y", true)) + 0.5;
        if (y < box.top || y > box.top + box.height) return;
        ctx.strokeStyle = token("--tone-bad");
        ctx.lineWidth = devicePixelRatio;
        ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
        ctx.beginPath(); ctx.moveTo(box.left, y); ctx.lineTo(box.left + box.width, y); ctx.stroke();
        ctx.fillStyle = token("--tone-bad");
        ctx.font = 11 * devicePixelRatio + "px sans-serif";
        ctx.fillText((limit.label ? limit.label + " " : "") + (side === "low" ? "≥ " : "≤ ") + limit[side], box.left + 6, y - 4);
      });
    });
    ctx.restore();
  }

  // --- after each swap: new charts, a new stream, refreshed charts of a live page
  function settle() {
    document.querySelectorAll("[data-chart]").forEach(function (figure) { if (!figure._plot && !figure._asked) { figure._asked = true; drawChart(figure); } });
    follow();
    tick();
  }
  document.addEventListener("htmx:after:swap", settle);
  document.body.addEventListener("live", function () { document.querySelectorAll("[data-chart]").forEach(drawChart); });
  settle();
})();
