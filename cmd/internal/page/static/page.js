"use strict";
// The page is complete without this: it puts in the parts that have changed, and
// draws the rates.
(() => {
  const live = document.getElementById("live");
  const source = new EventSource(document.body.dataset.live);
  source.onopen = () => { live.textContent = "live"; };
  source.onerror = () => { live.textContent = "not live: the mount does not answer"; };
  addEventListener("pagehide", () => source.close());
  source.addEventListener("part", (e) => {
    const part = JSON.parse(e.data), at = document.getElementById(part.id);
    const focus = at.contains(document.activeElement) && document.activeElement.getAttribute("href");
    at.innerHTML = part.html;
    if (focus) {
      const link = [...at.querySelectorAll("a")].find((a) => a.getAttribute("href") === focus);
      if (link) link.focus();
    }
  });

  const box = document.getElementById("chart"), rates = document.getElementById("rates");
  const data = [[], [], [], [], []], kinds = ["demand", "ahead", "rest", "served"];
  const labels = ["waited for", "fetched ahead", "of the rest", "given to guests"], colors = ["--wait", "--fetched", "--elsewhere", "--verified"];
  let last = null, plot = null, asked = false;
  // The chart is asked for when there is something to draw: the page is shown before.
  const fetchChart = () => {
    asked = true;
    const style = document.createElement("link"), script = document.createElement("script");
    style.rel = "stylesheet";
    style.href = "/static/uPlot.min.css";
    script.src = "/static/uPlot.iife.min.js";
    script.onload = () => { rates.hidden = false; draw(); };
    document.head.append(style, script);
  };
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const bytes = (n) => {
    const units = ["B/s", "KiB/s", "MiB/s", "GiB/s"];
    let i = 0;
    for (; n >= 1024 && i < 3; i++) n /= 1024;
    return (n >= 10 || i === 0 ? n.toFixed(0) : n.toFixed(1)) + " " + units[i];
  };
  const draw = () => {
    if (plot) plot.destroy();
    const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    const clock = (s) => new Date(s * 1000).toTimeString().slice(0, 8);
    const line = (label, name) => ({ label, stroke: color(name), width: 2, points: { show: false } });
    plot = new uPlot({
      width: box.clientWidth, height: 200,
      legend: { live: false }, cursor: { show: false },
      scales: { x: { range: (_, min, max) => [Math.min(min, max - 60), max] }, y: { range: (_, min, max) => [0, Math.max(max, 1024)] } },
      axes: [{ ...axis, space: 80, values: (_, list) => list.map(clock) },
        { ...axis, size: 72, incrs: [...Array(50).keys()].map((i) => 2 ** i), values: (_, list) => list.map(bytes) }],
      series: [{},
        ...labels.map((label, i) => line(label, colors[i]))],
    }, data, box);
  };
  source.addEventListener("rates", (e) => {
    const now = JSON.parse(e.data);
    if (last && now.ms > last.ms) {
      const span = (now.ms - last.ms) / 1000;
      data[0].push(now.ms / 1000);
      kinds.forEach((kind, i) => data[i + 1].push(Math.max(0, ((now[kind] || 0) - (last[kind] || 0)) / span)));
      box.setAttribute("aria-label", "Rates now: " + kinds.map((_, i) => bytes(data[i + 1].at(-1)) + " " + labels[i]).join(", "));
      if (data[0].length > 180) data.forEach((list) => list.shift());
      if (plot) plot.setData(data); else if (!asked && data[0].length > 1) fetchChart();
    }
    last = now;
  });
  addEventListener("resize", () => { if (plot) plot.setSize({ width: box.clientWidth, height: 200 }); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (plot) draw(); });
})();
