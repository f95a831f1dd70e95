"use strict";
(() => {
  const tip = document.getElementById("tip");

  // Shows the tip at a point of the page, but never beyond its edges.
  const show = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = false;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(x + 14, room)) + scrollX}px`;
    tip.style.top = `${Math.max(8, y - tip.offsetHeight - 12) + scrollY}px`;
  };
  const hide = () => { tip.hidden = true; };

  // Between the coordinates of the page and those of a drawing.
  const toDrawing = (svg, event) =>
    new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const toPage = (svg, x, y) => new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
  const number = (value) => value.toLocaleString("en-US", { maximumSignificantDigits: 5 });

  for (const chart of document.querySelectorAll(".chart[data-series]")) {
    const series = JSON.parse(chart.dataset.series);
    const cursor = chart.querySelector(".cursor");
    const stops = [...new Set(series.flatMap((one) => one.points.map((p) => p[0])))].sort((a, b) => a - b);
    let at = stops.length - 1;
    const nearest = (points, x) =>
      points.reduce((best, p) => (Math.abs(p[0] - x) < Math.abs(best[0] - x) ? p : best));
    const read = (x) => {
      const found = series.map((one) => [one.name, nearest(one.points, x)]);
      const closest = nearest(found.map((entry) => entry[1]), x);
      at = stops.indexOf(closest[0]);
      cursor.setAttribute("x1", closest[0]);
      cursor.setAttribute("x2", closest[0]);
      cursor.setAttribute("visibility", "visible");
      const where = `step ${number(closest[2])}` + (closest[4] ? `, epoch ${closest[4]}` : "");
      const lines = found.map(([name, point]) => `${name}: ${number(point[3])}`);
      const page = toPage(chart, closest[0], Math.min(...found.map((entry) => entry[1][1])));
      show([where, ...lines].join("\n"), page.x, page.y);
    };
    const leave = () => { cursor.setAttribute("visibility", "hidden"); hide(); };
    chart.addEventListener("pointermove", (event) => read(toDrawing(chart, event).x));
    chart.addEventListener("pointerleave", leave);
    chart.addEventListener("blur", leave);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      read(stops[Math.max(0, Math.min(stops.length - 1, at + step))]);
    });
  }

  for (const map of document.querySelectorAll(".matrix")) {
    const counts = JSON.parse(map.dataset.matrix);
    const classes = JSON.parse(map.dataset.classes);
    const [margin, cell] = [Number(map.dataset.margin), Number(map.dataset.cell)];
    const cursor = map.querySelector(".cursor");
    let [row, column] = [0, 0];
    for (const title of map.querySelectorAll("rect title")) title.remove(); // else the browser would show a second tip
    const read = () => {
      const total = counts[row].reduce((sum, count) => sum + count, 0);
      const hits = counts[row][column];
      const share = total ? `${number((100 * hits) / total)} % of the truth` : "not in the ground truth";
      const [x, y] = [margin + column * cell, margin + row * cell];
      cursor.setAttribute("x", x - 0.5);
      cursor.setAttribute("y", y - 0.5);
      cursor.setAttribute("visibility", "visible");
      const page = toPage(map, x + cell, y);
      const what = row === column ? `${classes[row]}, recognised` : `${classes[row]} taken for ${classes[column]}`;
      show(`${what}\n${share}\n${hits.toLocaleString("en-US")} pixels`, page.x, page.y);
    };
    const leave = () => { cursor.setAttribute("visibility", "hidden"); hide(); };
    map.addEventListener("pointermove", (event) => {
      const point = toDrawing(map, event);
      const [r, c] = [point.y, point.x].map((place) => Math.floor((place - margin) / cell));
      if (r < 0 || c < 0 || r >= counts.length || c >= counts.length) return leave();
      [row, column] = [r, c];
      read();
    });
    map.addEventListener("pointerleave", leave);
    map.addEventListener("blur", leave);
    map.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const inside = (index) => Math.max(0, Math.min(counts.length - 1, index));
      [row, column] = [inside(row + step[0]), inside(column + step[1])];
      read();
    });
  }

  for (const order of document.querySelectorAll(".sort")) {
    order.hidden = false;
    order.addEventListener("change", (event) => {
      const [key, sign] = event.target.value === "value" ? ["value", -1] : ["order", 1];
      const body = document.querySelector(".classes tbody");
      const rows = [...body.rows].sort((a, b) => sign * (a.dataset[key] - b.dataset[key]));
      body.append(...rows);
    });
  }

  const control = document.getElementById("all-images");
  if (control) {
    control.hidden = false;
    for (const choice of control.querySelectorAll("input[type=radio]")) {
      choice.addEventListener("change", () => {
        for (const one of document.querySelectorAll(`.shot input[value=${choice.value}]`)) one.checked = true;
      });
    }
    document.getElementById("strength").addEventListener("input", (event) => {
      document.documentElement.style.setProperty("--strength", event.target.value / 100);
    });
  }

  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
})();
