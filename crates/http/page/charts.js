// Small charts of the last hour and the last day. Each has its numbers as a table too.

import { clock } from "./format.js";
import { html, useEffect, useRef } from "./vendor/preact.js";
import uPlot from "./vendor/uplot.js";

const HEIGHT = 120;
const dark = matchMedia("(prefers-color-scheme: dark)");

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function options(series, width, format, least) {
  const axis = { stroke: () => color("muted"), grid: { stroke: () => color("line"), width: 1 }, ticks: { show: false } };
  const font = "11px system-ui, sans-serif";
  return {
    width,
    height: HEIGHT,
    cursor: { show: false },
    legend: { show: false },
    padding: [8, 8, 0, 0],
    scales: { y: { range: (_, __, most) => [0, Math.max(most, least) * 1.1] } },
    axes: [
      { ...axis, font, size: 24, space: 70, values: (_, times) => times.map((time) => clock(time * 1000).slice(0, 5)) },
      { ...axis, font, size: 46, space: 30, values: (_, numbers) => numbers.map(format) },
    ],
    series: [
      {},
      ...series.map(({ name, stroke }) => ({
        label: name,
        stroke: () => color(stroke),
        fill: () => `${color(stroke)}33`,
        width: 1.5,
        points: { show: false },
        paths: uPlot.paths.stepped({ align: 1 }),
      })),
    ],
  };
}

/** `series` are `{name, stroke, numbers}`; `buckets` says when the first begins and how long each is. */
export function Chart({ title, total, buckets, series, format, least = 1 }) {
  const place = useRef(null);
  const plot = useRef(null);
  const since = Date.parse(buckets.since) / 1000;
  const times = series[0].numbers.map((_, at) => since + (at * buckets.bucket_ms) / 1000);
  // A step needs the end of the last bucket too.
  const end = since + (times.length * buckets.bucket_ms) / 1000;
  const data = [[...times, end], ...series.map(({ numbers }) => [...numbers, numbers.at(-1)])];
  const latest = useRef(data);
  latest.current = data;
  useEffect(() => {
    const make = () => {
      // Between the end of the component and that of its effects.
      if (!place.current) return;
      plot.current?.destroy();
      plot.current = new uPlot(options(series, place.current.clientWidth, format, least), latest.current, place.current);
    };
    make();
    const resize = new ResizeObserver(
      () => place.current && plot.current?.setSize({ width: place.current.clientWidth, height: HEIGHT }),
    );
    resize.observe(place.current);
    dark.addEventListener("change", make);
    return () => {
      resize.disconnect();
      dark.removeEventListener("change", make);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [title]);
  useEffect(() => plot.current?.setData(data));
  const rows = times.map((time, at) => [time, series.map(({ numbers }) => numbers[at])]);
  const filled = rows.filter(([, numbers]) => numbers.some((number) => number > 0));
  return html`<figure class="chart">
    <figcaption>
      <b>${title}</b> <span>${total}</span>
      ${series.length > 1 && series.map(({ name, stroke }) => html`<span class=${`key ${stroke}`} key=${name}>${name}</span>`)}
    </figcaption>
    <div ref=${place} role="img" aria-label=${`${title}: ${total}`}></div>
    <details>
      <summary>Numbers</summary>
      <div class="scroll" tabindex="0" role="region" aria-label=${`${title}, numbers`}>
        <table>
          <thead>
            <tr><th scope="col">from</th>${series.map(({ name }) => html`<th scope="col" key=${name}>${name}</th>`)}</tr>
          </thead>
          <tbody>
            ${filled.length === 0 && html`<tr><td colspan=${series.length + 1}>nothing</td></tr>`}
            ${filled.reverse().map(
              ([time, numbers]) => html`<tr key=${time}>
                <th scope="row">${clock(time * 1000).slice(0, 5)}</th>
                ${numbers.map((number, at) => html`<td key=${at}>${format(number)}</td>`)}
              </tr>`,
            )}
          </tbody>
        </table>
      </div>
    </details>
  </figure>`;
}
