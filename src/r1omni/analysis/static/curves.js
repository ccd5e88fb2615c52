"use strict";
/* Curves of training, by uPlot: thin as logged, thick smoothed; the pointer reads them. */

{
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (value) => (value === null || value === undefined ? "" : String(Number(value.toPrecision(3))));
  const plots = [...document.querySelectorAll("script.series")].map((block) => {
    const { steps, values, smooth } = JSON.parse(block.textContent);
    const place = block.parentElement.querySelector(".plot");
    const axis = {
      stroke: () => colour("--soft"), font: "11.5px system-ui, sans-serif",
      grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false },
    };
    const line = (width, alpha) => ({
      stroke: () => colour("--accent"), width, alpha, points: { show: steps.length === 1 },
    });
    const plot = new uPlot({
      width: place.clientWidth, height: 150, legend: { live: true, markers: { show: false } },
      scales: { x: { time: false } },
      cursor: { y: false, drag: { x: false, y: false } },
      axes: [{ ...axis, grid: { show: false }, size: 26, space: 60 },
        { ...axis, size: 46, values: (_, splits) => splits.map(short) }],
      series: [{ label: "step", value: (_, value) => short(value) },
        { label: "logged", value: (_, value) => short(value), ...line(1, 0.35) },
        { label: "smoothed", value: (_, value) => short(value), ...line(2.2, 1) }],
    }, [steps, values, smooth], place);
    return { plot, place };
  });
  const fit = () => plots.forEach(({ plot, place }) => plot.setSize({ width: place.clientWidth, height: 150 }));
  window.addEventListener("resize", fit);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change",
    () => plots.forEach(({ plot }) => plot.redraw(true, true)));
}
