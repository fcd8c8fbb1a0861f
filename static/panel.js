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
    /* On a phone the navigation is one line that scrolls: bring the present page into it. */
    var current = document.querySelector(".gp-nav [aria-current]");
    if (current) current.closest(".gp-nav").scrollLeft = current.offsetLeft - 16;
    document.querySelectorAll("[data-chart]").forEach(draw);
  });
  document.addEventListener("htmx:load", function (event) { revealScripted(event.target); });

  /* The live list waits while its page is hidden, or while somebody reads a row by keyboard or selects its text. */
  document.addEventListener("htmx:beforeRequest", function (event) {
    if (!event.target.matches("[data-live]")) return;
    var selection = document.getSelection();
    var isRead = event.target.contains(document.activeElement) || (!selection.isCollapsed && event.target.contains(selection.anchorNode));
    if (document.hidden || isRead) event.preventDefault();
  });

  /* <figure data-chart data-x="[…]" data-y="[…]" data-label="…">: a bar for each hour; x in seconds since 1970. */
  function draw(figure) {
    if (!window.uPlot) return;
    var uPlot = window.uPlot;
    var ink = getComputedStyle(figure).color;
    var tint = getComputedStyle(figure).caretColor;
    var grid = { stroke: "rgba(128,140,155,.25)", width: 1 };
    function two(number) { return String(number).padStart(2, "0"); }
    function hours(_plot, splits) {
      return splits.map(function (seconds) {
        var at = new Date(seconds * 1000);
        return at.getUTCHours() ? two(at.getUTCHours()) + ":" + two(at.getUTCMinutes()) : two(at.getUTCMonth() + 1) + "-" + two(at.getUTCDate());
      });
    }
    var plot = new uPlot({
      width: figure.clientWidth, height: 190, padding: [8, 8, 0, 0],
      legend: { show: false }, cursor: { show: false },
      tzDate: function (seconds) { return uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"); },
      scales: {
        x: { range: function (_plot, min, max) { return [min - 1800, max + 1800]; } },
        y: { range: function (_plot, _min, max) { return [0, Math.max(max * 1.1, 5)]; } }
      },
      axes: [
        { stroke: ink, grid: { show: false }, ticks: grid, values: hours, space: 56, size: 30 },
        { stroke: ink, grid: grid, ticks: { show: false }, size: 52, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000, 100000] }
      ],
      series: [{}, { label: figure.dataset.label, stroke: tint, fill: tint, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.75, 28] }) }]
    }, [JSON.parse(figure.dataset.x), JSON.parse(figure.dataset.y)], figure);
    window.addEventListener("resize", function () { plot.setSize({ width: figure.clientWidth, height: 190 }); });
  }
})();
