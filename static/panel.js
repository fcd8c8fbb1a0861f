/* What the pages can do better with a script than without. Every page works when this file does not run:
   copy buttons appear, forms ask before what cannot be undone, menus close by themselves, charts are drawn. */
(function () {
  "use strict";

  function announce(text) {
    var announcer = document.getElementById("announcer");
    if (announcer) announcer.textContent = text;
  }

  function revealScripted(root) {
    root.querySelectorAll(".gp-script[hidden]").forEach(function (element) { element.hidden = false; });
  }

  function copy(button) {
    var value = button.closest("[data-copy]").querySelector("[data-copy-value]").textContent;
    var word = button.querySelector("span") || button;
    var before = word.textContent;
    navigator.clipboard.writeText(value).then(function () {
      word.textContent = button.dataset.copied;
      announce(button.dataset.copied);
      window.setTimeout(function () { word.textContent = before; }, 2000);
    });
  }

  document.addEventListener("click", function (event) {
    var button = event.target.closest("[data-copy-button]");
    if (button) copy(button);
    document.querySelectorAll("details[data-menu][open]").forEach(function (menu) {
      if (!menu.contains(event.target)) menu.open = false;
    });
  });

  document.addEventListener("keydown", function (event) {
    if (event.key !== "Escape") return;
    document.querySelectorAll("details[data-menu][open]").forEach(function (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    });
  });

  /* <form data-confirm="…"> or <button data-confirm="…"> asks first. Without a script the server's own page asks. */
  document.addEventListener("submit", function (event) {
    var form = event.target;
    var question = (event.submitter && event.submitter.dataset.confirm) || form.dataset.confirm;
    if (question && !window.confirm(question)) { event.preventDefault(); return; }
    if (form.dataset.sent === "yes") { event.preventDefault(); return; }
    if (form.method === "post") form.dataset.sent = "yes";
  });

  window.addEventListener("pageshow", function (event) {
    document.querySelectorAll("form[data-sent]").forEach(function (form) { delete form.dataset.sent; });
    /* A page that showed a secret is fetched again when the browser brings it back: then it shows none. */
    if (event.persisted && document.querySelector("[data-once]")) window.location.reload();
  });

  document.addEventListener("DOMContentLoaded", function () {
    revealScripted(document);
    document.querySelectorAll("[data-chart]").forEach(draw);
  });
  document.addEventListener("htmx:load", function (event) { revealScripted(event.target); });

  /* <figure data-chart data-x="[…]" data-y="[…]" data-limit="…" data-label="…">: accepted by hour, in seconds since 1970. */
  function draw(figure) {
    if (!window.uPlot) return;
    var look = getComputedStyle(figure);
    var ink = look.color;
    var tint = getComputedStyle(figure.querySelector(".gp-ink") || figure).color;
    var grid = { stroke: "rgba(128,140,155,.25)", width: 1 };
    var options = {
      width: figure.clientWidth, height: 180, legend: { show: false }, cursor: { y: false, drag: { x: false, y: false } },
      scales: { y: { range: function (_u, _min, max) { return [0, Math.max(max * 1.1, 5)]; } } },
      axes: [{ stroke: ink, grid: grid, ticks: grid }, { stroke: ink, grid: grid, ticks: grid, size: 56 }],
      series: [{}, { label: figure.dataset.label, stroke: tint, fill: tint, width: 0, points: { show: false }, paths: window.uPlot.paths.bars({ size: [0.8, 40] }) }]
    };
    var plot = new window.uPlot(options, [JSON.parse(figure.dataset.x), JSON.parse(figure.dataset.y)], figure);
    window.addEventListener("resize", function () { plot.setSize({ width: figure.clientWidth, height: 180 }); });
  }
})();
