// Charts of a machine's channels: several small ones below each other on one time axis, one unit each.
//
//   <div data-chart-url="/tickets/7/telemetry.json?minutes=60"   where the samples are (JSON, see portal/charts.py payload)
//        data-chart-refresh="10"                                 seconds between looks while the page is visible; absent: once
//        data-text-empty="…" data-text-failed="…"></div>         what to say where there is nothing to draw
//   <a data-chart-minutes="360" href="…?minutes=360">            in the same section: another range, without leaving the page
//
// JSON: {from, to, every_s, timezone, times: [s], panels: [{key, title, unit, series: [{key, label, values: [number|null]}],
//        limits: [{label, value, bound: "limit"|"rated"}]}], bands: [{from, to, label, tone: "finding"|"run"}]}
// A null is a silence: no line is drawn over it. Without JavaScript the table beside the chart says the same.
(function () {
  "use strict";
  if (window.brewairCharts) { window.brewairCharts.settle(); return; }

  var SERIES = ["--chart-1", "--chart-2", "--chart-3", "--chart-4", "--chart-5"];
  var synced = 0;

  function token(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
  function figure(value) { return value == null ? "–" : String(Math.round(value * 10) / 10); }

  function load(stack) {
    var url = new URL(stack.dataset.chartUrl, location.href);
    return fetch(url, { headers: { Accept: "application/json" } })
      .then(function (answer) { if (!answer.ok) throw new Error(String(answer.status)); return answer.json(); })
      .then(function (given) { draw(stack, given); })
      .catch(function () { if (!stack._plots || !stack._plots.length) say(stack, stack.dataset.textFailed); });
  }

  function say(stack, text) {
    clear(stack);
    var note = document.createElement("p");
    note.className = "chart-note";
    note.textContent = text || "";
    stack.appendChild(note);
  }

  function clear(stack) {
    (stack._plots || []).forEach(function (plot) { plot.destroy(); });
    stack._plots = [];
    stack._shape = "";
    stack.textContent = "";
  }

  function draw(stack, given) {
    if (!given.panels.length) { say(stack, stack.dataset.textEmpty); return; }
    stack._given = given;
    var shape = given.panels.map(function (panel) { return panel.key + panel.series.length; }).join() + given.timezone;
    if (shape === stack._shape) {
      stack._plots.forEach(function (plot, index) { plot._panel = given.panels[index]; plot.setData(columns(given, given.panels[index])); });
      return;
    }
    clear(stack);
    var key = "machine-" + (synced += 1);
    stack._plots = given.panels.map(function (panel, index) { return plotOf(stack, panel, key, index === given.panels.length - 1); });
    stack._shape = shape;
  }

  function columns(given, panel) {
    return [given.times].concat(panel.series.map(function (series) { return series.values; }));
  }

  function heading(panel) {
    var head = document.createElement("p");
    head.className = "chart-head";
    var title = document.createElement("b");
    title.textContent = panel.title + (panel.unit ? " (" + panel.unit + ")" : "");
    head.appendChild(title);
    var live = document.createElement("span");
    live.className = "chart-live";
    head.appendChild(live);
    return head;
  }

  function plotOf(stack, panel, key, last) {
    var given = stack._given, box = document.createElement("div");
    box.className = "chart-panel";
    var head = heading(panel), canvas = document.createElement("div");
    box.appendChild(head);
    box.appendChild(canvas);
    stack.appendChild(box);
    var ink = token("--ink-soft"), line = { stroke: token("--line"), width: 1 };
    var font = "12px " + getComputedStyle(document.body).fontFamily;
    var height = last ? 158 : 132;
    var chart = new window.uPlot({
      width: stack.clientWidth, height: height,
      padding: [8, 20, 0, 0],
      tzDate: function (seconds) { return window.uPlot.tzDate(new Date(seconds * 1000), given.timezone); },
      legend: { show: false },
      cursor: { sync: { key: key }, drag: { x: false, y: false }, points: { size: 7 } },
      scales: {
        x: { time: true, range: function () { return [stack._given.from, stack._given.to]; } },
        y: { range: function (u, low, high) { return reach(u._panel || panel, low, high); } },
      },
      axes: [
        { show: true, stroke: last ? ink : "transparent", size: last ? 30 : 6, grid: line, ticks: { show: last, stroke: token("--line"), width: 1 }, font: font,
          values: [[86400, "{MM}-{DD}", null, null, null, null, null, null, 1], [3600, "{HH}:{mm}", null, null, null, null, null, null, 1], [60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
        { stroke: ink, size: 52, grid: line, ticks: { show: false }, font: font, space: 26 },
      ],
      series: [{}].concat(panel.series.map(function (series, index) {
        return { label: series.label, stroke: token(SERIES[index % SERIES.length]), width: 1.75, spanGaps: false, points: { show: false } };
      })),
      hooks: {
        drawClear: [function (u) { bands(u, stack._given); }],
        draw: [function (u) { limits(u, (u._panel || panel).limits); }],
        setCursor: [function (u) { legend(u, u._panel || panel, head.lastChild); }],
        setData: [function (u) { legend(u, u._panel || panel, head.lastChild); }],
      },
    }, columns(given, panel), canvas);
    chart._panel = panel;
    legend(chart, panel, head.lastChild);
    return chart;
  }

  // The limits stay in sight, whatever the machine does; a flat line gets some air.
  function reach(panel, low, high) {
    panel.limits.forEach(function (limit) {
      low = low == null ? limit.value : Math.min(low, limit.value);
      high = high == null ? limit.value : Math.max(high, limit.value);
    });
    if (low == null) return [0, 1];
    // Noise on a steady figure must not look like an event: the axis spans a tenth of the figure at least.
    var least = Math.max(Math.abs(high), 1) * 0.1;
    if (high - low < least) { var middle = (high + low) / 2; low = middle - least / 2; high = middle + least / 2; }
    var margin = (high - low) * 0.1;
    return [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin];
  }

  function legend(u, panel, live) {
    var index = u.cursor.idx;
    live.textContent = "";
    panel.series.forEach(function (series, position) {
      var values = series.values, at = index == null ? newest(values) : index;
      var mark = document.createElement("span");
      mark.className = "chart-key chart-key-" + (position + 1);
      mark.textContent = (panel.series.length > 1 ? series.label + " " : "") + figure(values[at]);
      live.appendChild(mark);
    });
  }

  function newest(values) {
    for (var index = values.length - 1; index >= 0; index -= 1) if (values[index] != null) return index;
    return 0;
  }

  function bands(u, given) {
    var ctx = u.ctx, box = u.bbox;
    ctx.save();
    given.bands.forEach(function (band) {
      var from = Math.max(u.valToPos(band.from, "x", true), box.left), to = Math.min(u.valToPos(band.to, "x", true), box.left + box.width);
      if (to <= from) return;
      ctx.fillStyle = token(band.tone === "run" ? "--chart-run" : "--chart-finding");
      ctx.fillRect(from, box.top, Math.max(to - from, 2 * devicePixelRatio), box.height);
    });
    ctx.restore();
  }

  function limits(u, lines) {
    var ctx = u.ctx, box = u.bbox, ratio = devicePixelRatio;
    ctx.save();
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    ctx.font = 11 * ratio + "px " + getComputedStyle(document.body).fontFamily;
    var taken = [], ahead = 4 * ratio, tall = 13 * ratio;
    // At the first of the places that no other label has: above or below its line, at the left or the right.
    function place(y, room) {
      var lefts = [box.left + ahead, box.left + box.width - room - ahead], tops = [y - tall - ratio, y + 2 * ratio], found = null;
      tops.forEach(function (top) {
        if (top < box.top || top + tall > box.top + box.height) return;
        lefts.forEach(function (left) {
          var free = taken.every(function (other) { return left + room < other.left || other.left + other.room < left || top + tall <= other.top || other.top + tall <= top; });
          if (free && !found) found = { left: left, top: top, room: room };
        });
      });
      found = found || { left: lefts[taken.length % 2], top: tops[0] < box.top ? tops[1] : tops[0], room: room };
      taken.push(found);
      return found;
    }
    lines.forEach(function (limit) {
      var y = Math.round(u.valToPos(limit.value, "y", true)) + 0.5;
      if (y < box.top - 1 || y > box.top + box.height + 1) return;
      var colour = token(limit.bound === "rated" ? "--ink-faint" : "--tone-bad");
      ctx.strokeStyle = colour;
      ctx.lineWidth = ratio;
      ctx.setLineDash(limit.bound === "rated" ? [2 * ratio, 3 * ratio] : [6 * ratio, 4 * ratio]);
      ctx.beginPath(); ctx.moveTo(box.left, y); ctx.lineTo(box.left + box.width, y); ctx.stroke();
      var text = limit.label + " " + figure(limit.value), room = ctx.measureText(text).width;
      var at = place(y, room);
      ctx.fillStyle = token("--surface");
      ctx.globalAlpha = 0.75;
      ctx.fillRect(at.left - 2 * ratio, at.top, room + 4 * ratio, tall);
      ctx.globalAlpha = 1;
      ctx.fillStyle = colour;
      ctx.fillText(text, at.left, at.top + 10 * ratio);
    });
    ctx.restore();
  }

  function settle() {
    document.querySelectorAll("[data-chart-url]").forEach(function (stack) {
      if (stack._ready) return;
      stack._ready = true;
      load(stack);
      if (window.ResizeObserver) new ResizeObserver(function () {
        (stack._plots || []).forEach(function (plot) { if (stack.clientWidth) plot.setSize({ width: stack.clientWidth, height: plot.height }); });
      }).observe(stack);
      var every = Number(stack.dataset.chartRefresh || 0);
      if (every) {
        var timer = setInterval(function () {
          if (!stack.isConnected) { clearInterval(timer); return; }
          if (!document.hidden) load(stack);
        }, every * 1000);
      }
    });
  }

  document.addEventListener("click", function (event) {
    var link = event.target.closest && event.target.closest("[data-chart-minutes]");
    var section = link && link.closest("section"), stack = section && section.querySelector("[data-chart-url]");
    if (!stack) return;
    event.preventDefault();
    var url = new URL(stack.dataset.chartUrl, location.href);
    url.searchParams.set("minutes", link.dataset.chartMinutes);
    stack.dataset.chartUrl = url.pathname + url.search;
    section.querySelectorAll("[data-chart-minutes]").forEach(function (other) { other.removeAttribute("aria-current"); });
    link.setAttribute("aria-current", "true");
    load(stack);
  });
  new MutationObserver(function () {  // light or dark: drawn again in the other colours
    document.querySelectorAll("[data-chart-url]").forEach(function (stack) { if (stack._given) { var given = stack._given; clear(stack); draw(stack, given); } });
  }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });
  document.addEventListener("htmx:after:swap", settle);
  window.brewairCharts = { settle: settle };
  settle();
})();
